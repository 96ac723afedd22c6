package rados

/*
#include "fuse.h"
*/
import "C"

import (
	"errors"
	"time"

	"github.com/ceph/go-ceph/rbd"
	"k8s.io/klog/v2"
)

// holder serves the holds (hold.go) of an image that is served through FUSE.
type holder struct {
	image *rbd.Image
	fuse  *C.struct_cairn_fuse
	op    string
	watch *rbd.Watch
	news  chan struct{}
	stop  chan struct{}
	done  chan struct{}
}

const relock = 50 * time.Millisecond

// newHolder watches an image, if this client owns its exclusive lock.
func newHolder(image *rbd.Image, fuse *C.struct_cairn_fuse, op string) (*holder, error) {
	owner, err := image.LockIsExclusiveOwner()
	if err != nil || !owner {
		return nil, err
	}
	h := &holder{image: image, fuse: fuse, op: op,
		news: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	h.watch, err = image.UpdateWatch(func(any) {
		select {
		case h.news <- struct{}{}:
		default:
		}
	}, nil)
	if err != nil {
		return nil, err
	}
	go h.run()
	return h, nil
}

// close ends the watch. What is held stays so: the image is about to be closed.
func (h *holder) close() error {
	if h == nil {
		return nil
	}
	close(h.stop)
	<-h.done
	return h.watch.Unwatch()
}

func (h *holder) run() {
	defer close(h.done)
	last := ""
	for {
		select {
		case <-h.stop:
			return
		case <-h.news:
		}
		token := h.asked()
		if token == "" || token == last || holdExpired(token, time.Now()) {
			continue
		}
		last = token
		if !h.hold(token) {
			return
		}
	}
}

// asked is the hold that the image's metadata asks for. What cannot be read asks
// for none.
func (h *holder) asked() string {
	token, err := h.image.GetMetadata(holdKey)
	if err != nil {
		return ""
	}
	return token
}

// hold lets go of the image until the hold is over. False when it is stopped.
func (h *holder) hold(token string) bool {
	began := time.Now()
	if !C.cairn_fuse_hold(h.fuse) {
		return false
	}
	defer C.cairn_fuse_go(h.fuse)
	if err := errors.Join(h.image.Flush(), h.image.LockRelease()); err != nil {
		klog.ErrorS(err, "The image could not be let go of for a group snapshot", "image", h.op)
		return h.lock()
	}
	stopped := h.wait(token)
	again := !stopped && h.lock()
	klog.InfoS("The image was let go of for a group snapshot", "image", h.op, "for", time.Since(began).Round(time.Millisecond))
	return again
}

// wait returns when the hold is over: it was ended, or lasted too long.
func (h *holder) wait(token string) (stopped bool) {
	limit := time.NewTimer(holdFor)
	defer limit.Stop()
	for h.asked() == token {
		select {
		case <-h.stop:
			return true
		case <-limit.C:
			klog.InfoS("A hold for a group snapshot took too long: ended", "image", h.op, "limit", holdFor)
			return false
		case <-h.news:
		}
	}
	return false
}

// lock takes the lock back. Until then nothing is written: who made the group
// snapshot may have it still. A client that took the image over keeps it, and
// what is held then waits as long as this process serves the image.
func (h *holder) lock() bool {
	tick := time.NewTicker(relock)
	defer tick.Stop()
	warned := time.Now()
	for {
		err := h.image.LockAcquire(rbd.LockModeExclusive)
		if err == nil {
			return true
		}
		if time.Since(warned) > holdFor {
			warned = time.Now()
			klog.ErrorS(err, "Waiting to lock the image again after a group snapshot", "image", h.op)
		}
		select {
		case <-h.stop:
			return false
		case <-tick.C:
		}
	}
}
