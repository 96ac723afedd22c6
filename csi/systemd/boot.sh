# Runs a systemd as the first process of namespaces of its own, with nothing but what a test needs.
# $1: an empty directory; $2: a program that asks it.
units=$1 program=$2
cp /lib/systemd/system/{shutdown,umount,final,poweroff,exit,sysinit,basic,local-fs,local-fs-pre}.target /lib/systemd/system/systemd-{poweroff,exit}.service "$units"
printf '[Unit]\nDescription=Only this\n' >"$units/only.target"
printf '[Service]\nEnvironment=%q\nExecStart=/bin/sleep infinity\nExecStop=%s\n' \
	"CAIRN_TEST_ASK_SYSTEMD=$CAIRN_TEST_ASK_SYSTEMD" "$program" >"$units/asks.service"

# In a control group of its own, so that it takes none of the machine's processes into its scopes.
mkdir "$units/groups"
mount -t cgroup2 none "$units/groups"
clean() { find "$units/groups/" -depth -path '*/cairn-test-systemd-*' -type d -exec rmdir {} + 2>/dev/null || true; }
clean # after a crash
group=$units/groups/cairn-test-systemd-$$
mkdir "$group"
(
	echo "$BASHPID" >"$group/cgroup.procs"
	exec unshare --mount --pid --fork --kill-child --mount-proc --cgroup --uts --ipc --propagation private bash -euc '
		mount -t tmpfs none /run
		mount -t cgroup2 none /sys/fs/cgroup
		(
			until [ -S /run/systemd/private ]; do sleep 0.05; done
			"$1"
			# Like a container, with mounts of its own.
			unshare --mount --propagation private bash -c "trap \"$1; exit\" TERM; while :; do sleep 0.1; done" &
			systemctl start asks.service
			kill -s RTMIN+4 1
			wait
		) &
		exec env -u CAIRN_TEST_ASK_SYSTEMD container=lxc SYSTEMD_UNIT_PATH="$0" SYSTEMD_LOG_TARGET=console /lib/systemd/systemd --unit=only.target
	' "$units" "$program"
) || echo "it ended with $?"
clean
