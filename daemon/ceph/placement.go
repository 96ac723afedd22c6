package ceph

// Placement is where a cluster keeps its data at one moment, and by what rules: all
// that is needed to say where it would be kept otherwise.
type Placement struct {
	// CRUSH is the CRUSH map as Ceph encodes it.
	CRUSH []byte
	// In is how much of its share each OSD takes, from 0 (it is out) to 1.
	In map[int]float64
	// Up are the OSDs that run.
	Up map[int]bool
	// Pools by ID.
	Pools map[int64]PlacedPool
	PGs   []PG
}

// PlacedPool is what the placement of a pool follows from.
type PlacedPool struct {
	Name string
	Size int
	// Rule is the number of its CRUSH rule, Targets how many places its PGs are spread over.
	Rule, Targets int
	// Replicated is false for erasure-coded pools.
	Replicated bool
}

// PG is a placement group.
type PG struct {
	Pool int64
	Seed int
	// Bytes of its objects, before replication.
	Bytes int64
	// OSDs that are to hold it.
	OSDs []int
	// Upmaps are the exceptions from CRUSH that were made for it, each from one OSD to another.
	Upmaps [][2]int
}
