/* One image as the one file of a FUSE filesystem, served with librbd's
 * asynchronous calls. See fuse.c. */
#ifndef CAIRN_FUSE_H
#define CAIRN_FUSE_H

#include <rbd/librbd.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	CAIRN_MAX_WRITE = 1 << 20,      /* bytes of one write */
	CAIRN_LOG_SIZE = 64 << 20,      /* bytes of the log's ring */
	CAIRN_LOG_CHUNK = 1 << 20,      /* memory of the ring is taken and freed by this much */
};

struct cairn_fuse_options {
	int device;       /* descriptor of /dev/fuse, non-blocking */
	int log;          /* memfd: what was acknowledged and is not yet stable; survives this process */
	int events;       /* pipe that failed requests are told on; closed at the end */
	bool read_only;
	bool write_back;  /* librbd may acknowledge what the cluster has not: keep it in the log */
	const char *name; /* of the file, at most 63 bytes */
};

struct cairn_fuse_event {
	uint32_t opcode;
	int32_t error;    /* negative errno */
};

struct cairn_fuse_counters {
	uint64_t reads, writes, flushes, zeroes, failed, replayed;
};

struct cairn_fuse;

/* Maps the log and prepares to serve. Returns a negative errno. */
int cairn_fuse_new(rbd_image_t image, const struct cairn_fuse_options *options, struct cairn_fuse **served);
/* Carries out again what the log of a process before this one holds. */
int cairn_fuse_replay(struct cairn_fuse *v);
/* Begins to serve; resend asks the kernel for what the process before left unanswered. */
int cairn_fuse_start(struct cairn_fuse *v, bool resend);
/* Holds all requests: returns once nothing is under way, false when it is being stopped. */
bool cairn_fuse_hold(struct cairn_fuse *v);
/* Serves on after a hold. */
void cairn_fuse_go(struct cairn_fuse *v);
/* Ends the serving and waits until all that was read is answered. */
void cairn_fuse_stop(struct cairn_fuse *v);
/* Makes all that was acknowledged stable, and empties the log. Only after a stop. */
int cairn_fuse_flush(struct cairn_fuse *v);
void cairn_fuse_free(struct cairn_fuse *v);
/* Whether the kernel said that it can send requests again. */
bool cairn_fuse_resends(struct cairn_fuse *v);
void cairn_fuse_count(struct cairn_fuse *v, struct cairn_fuse_counters *out);

#endif
