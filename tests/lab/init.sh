#!/bin/bash
# Process 1 of a node: makes the node's view of the machine, then keeps its
# programs running. The lab writes this file's variables into node.env.
set -eu
cd "$(dirname "$0")"
. ./node.env
here=$PWD
ulimit -n "$(ulimit -Hn)"

hostname "$NODE"
mount -t proc proc /proc

# The node's own /dev: what programs expect, and no disk of the host. Loop
# devices are the kernel's, one set for all; which are the node's disks, only
# the names in /dev/disk/by-id tell.
dev=$here/dev
mount -t tmpfs -o mode=755 tmpfs "$dev"
for name in null zero full random urandom tty console kmsg fuse loop-control; do
  cp -a "/dev/$name" "$dev/"
done
[ ! -e /dev/kvm ] || cp -a /dev/kvm "$dev/"
[ ! -e /dev/net/tun ] || { mkdir "$dev/net" && cp -a /dev/net/tun "$dev/net/"; }
tar -C "$here/../../loops" -cf - . | tar -C "$dev" -xf -
mkdir -p "$dev"/{pts,shm,mqueue,disk/by-id}
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$dev/pts"
mount -t tmpfs tmpfs "$dev/shm"
mount -t mqueue mqueue "$dev/mqueue"
ln -s pts/ptmx "$dev/ptmx"
ln -s /proc/self/fd "$dev/fd"
ln -s fd/0 "$dev/stdin"
ln -s fd/1 "$dev/stdout"
ln -s fd/2 "$dev/stderr"
mount --move "$dev" /dev

mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock
while read -r source target; do
  mount --bind "$source" "$target"
done <binds
mount --make-rshared /

exec </dev/null
if [ -e fresh ]; then
  # Forget the containers of the lab before this one, keep the images. With
  # its Kubernetes part on, containerd would remember them.
  containerd --config "$here/containerd-plain.toml" >>/var/log/containerd.log 2>&1 &
  plain=$!
  until ctr version >/dev/null 2>&1; do sleep 0.05; done
  ctr -n k8s.io containers ls -q | xargs -r ctr -n k8s.io containers rm >>/var/log/containerd.log 2>&1 || true
  kill "$plain"
  wait "$plain" || true
  rm -rf /var/lib/containerd/io.containerd.grpc.v1.cri fresh
fi

keep() {
  local log=$1
  shift
  while :; do
    "$@" >>"/var/log/$log.log" 2>&1 || true
    sleep 0.5
  done
}

keep containerd containerd --config "$here/containerd.toml" &
until ctr version >/dev/null 2>&1; do sleep 0.05; done
touch /run/lab-containerd-ready

# kubelet tries again ever more slowly: begin when it can succeed.
until (exec 3<>"/dev/tcp/$API_HOST/$API_PORT") 2>/dev/null; do sleep 0.1; done
keep kubelet "$BIN/kubelet" --config="$here/kubelet.yaml" --kubeconfig="$KUBECONFIG_NODE" \
  --hostname-override="$NODE" --node-ip="$ADDRESS" --node-labels="topology.kubernetes.io/zone=$ZONE" &
keep kube-proxy "$BIN/kube-proxy" --config="$here/kube-proxy.yaml" &

# Reap whatever is orphaned, for ever.
while :; do
  wait -n || true
  sleep 0.2
done
