package ceph

// Releases are what daemons run, and the oldest that the maps let take part.
type Releases struct {
	// Daemons: mon, mgr or osd → version ("20.2.4") → how many said so when they last started.
	Daemons map[string]map[string]int
	// Mons is the oldest release that the monmap lets take part ("reef"), OSDs that
	// which the OSD map does.
	Mons, OSDs string
}

// ReleaseNumber is the number of a release by its name, 18 of "reef": Ceph names
// its releases by the letters of the alphabet in order. 0 of what is no name.
func ReleaseNumber(name string) int {
	if name == "" || name[0] < 'a' || name[0] > 'z' {
		return 0
	}
	return int(name[0]-'a') + 1
}
