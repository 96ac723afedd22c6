/* The data path of one attached image: a thread reads the kernel's requests from
 * /dev/fuse and hands them to librbd, whose completions write the answers.
 *
 * The filesystem has one directory (inode 1) and one file in it (inode 2).
 *
 * The log. librbd acknowledges a write as soon as it is in its cache, and the
 * kernel then forgets it. So that the death of this process loses none of them,
 * requests are read straight into a ring of shared memory that outlives it. A
 * record is the raw request; it is freed when a later flush made it stable. The
 * next process carries out again what lies between head and tail, in order: all
 * that changes the image is there, so the result is what was acknowledged. */
#define _GNU_SOURCE
#include "fuse.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
	ROOT = FUSE_ROOT_ID,
	FILE_INODE = 2,
	PAGE = 4096,
	/* The kernel reads no request into less than the largest one. */
	WINDOW = CAIRN_MAX_WRITE + PAGE,
	RECORD_ALIGN = 64,
	MAX_BACKGROUND = 256,
	/* The log is flushed when it holds so much, or has held something so long. */
	FLUSH_BYTES = 16 << 20,
	FLUSH_MS = 1000,
	/* Without a request for so long, the log's memory is given back. */
	IDLE_MS = 1000,
	RETRY_MS = 100,
	/* The logs of all volumes keep so much memory while they are busy; what goes
	 * beyond is given back at once. */
	KEEP_BYTES = 128 << 20,
	/* Buffers of large reads are kept for later ones, while there are any. */
	LARGE = 64 << 10,
	KEEP_BUFFERS = 8,
	/* Reading stops while answers under way take so much memory. */
	MAX_READING = 64 << 20,
	STACK = 256 << 10,
};

static const uint64_t zero_chunk = 1u << 30; /* the most that one call of librbd zeroes */
static const uint64_t log_magic = 0x314c4e5249414331ull;

/* The first page of the log. Positions only grow; a record is at its position
 * modulo the ring's size. */
struct log_header {
	uint64_t magic, size;
	uint64_t init_flags; /* what was agreed with the kernel */
	_Atomic uint64_t head, tail;
};

struct cairn_fuse {
	rbd_image_t image;
	int device, log_fd, events, stop;
	bool read_only, write_back;
	char name[64];

	struct log_header *log;
	char *ring, *scratch;
	/* Memory of the ring is there from punched to populated; the reader's own. */
	uint64_t punched, populated;
	int64_t flushed_at; /* ms */

	pthread_t reader;
	bool started;
	atomic_bool stopping;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool held;
	unsigned under_way;
	size_t reading; /* bytes of answers under way */
	struct request *oldest, *newest; /* logged requests under way */
	bool flushing;
	int flush_error;
	struct cairn_fuse_counters counters;
};

/* A request under way. */
struct request {
	struct cairn_fuse *v;
	uint64_t unique; /* 0: nobody waits for an answer */
	uint32_t opcode;
	uint32_t size;      /* bytes read or written */
	uint64_t position;  /* of its record; of a flush: what it makes stable */
	struct request *prev, *next;
	bool logged;
	atomic_int parts;
	atomic_int error;
	char *data; /* of a read */
};

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Memory. */

static _Atomic int64_t resident; /* of all logs, in bytes */

static struct {
	pthread_mutex_t lock;
	void *free[KEEP_BUFFERS];
	int count;
} buffers = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* take_buffer returns memory for a read. Fresh memory costs as much as copying
 * into it: that of large reads is used again. */
static void *take_buffer(size_t size)
{
	if (size <= LARGE)
		return malloc(size);
	void *buffer = NULL;
	pthread_mutex_lock(&buffers.lock);
	if (buffers.count)
		buffer = buffers.free[--buffers.count];
	pthread_mutex_unlock(&buffers.lock);
	if (buffer)
		return buffer;
	buffer = mmap(NULL, CAIRN_MAX_WRITE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return buffer == MAP_FAILED ? NULL : buffer;
}

static void give_buffer(void *buffer, size_t size)
{
	if (size <= LARGE)
		return free(buffer);
	pthread_mutex_lock(&buffers.lock);
	bool keep = buffers.count < KEEP_BUFFERS;
	if (keep)
		buffers.free[buffers.count++] = buffer;
	pthread_mutex_unlock(&buffers.lock);
	if (!keep)
		munmap(buffer, CAIRN_MAX_WRITE);
}

static void free_buffers(void)
{
	pthread_mutex_lock(&buffers.lock);
	while (buffers.count)
		munmap(buffers.free[--buffers.count], CAIRN_MAX_WRITE);
	pthread_mutex_unlock(&buffers.lock);
}

/* Answers. */

static void reply(struct cairn_fuse *v, uint64_t unique, int error, const void *data, size_t size)
{
	struct fuse_out_header out = { .len = sizeof(out) + size, .error = error, .unique = unique };
	struct iovec parts[] = { { &out, sizeof(out) }, { (void *)data, size } };
	/* An answer that nobody wants any more fails, and nothing has to be done. */
	ssize_t n = writev(v->device, parts, size ? 2 : 1);
	(void)n;
}

/* refusal is the errno that the block layer sees for an error of librbd. */
static int refusal(int error)
{
	switch (-error) {
	case ESHUTDOWN: /* fenced */
		return -ESHUTDOWN;
	case ENOSPC:
	case EDQUOT:
		return -ENOSPC;
	case EROFS: /* another client owns the image */
	case EBUSY:
		return -EROFS;
	}
	return -EIO;
}

static int refused(struct cairn_fuse *v, uint32_t opcode, int error)
{
	struct cairn_fuse_event event = { opcode, error };
	ssize_t n = write(v->events, &event, sizeof(event)); /* non-blocking: too many are dropped */
	(void)n;
	__atomic_add_fetch(&v->counters.failed, 1, __ATOMIC_RELAXED);
	return refusal(error);
}

/* Requests under way. */

static struct request *begin(struct cairn_fuse *v, const struct fuse_in_header *in)
{
	struct request *r = calloc(1, sizeof(*r));
	if (r == NULL)
		return NULL;
	r->v = v;
	r->unique = in ? in->unique : 0;
	r->opcode = in ? in->opcode : FUSE_FSYNC;
	atomic_init(&r->parts, 1);
	pthread_mutex_lock(&v->lock);
	v->under_way++;
	pthread_mutex_unlock(&v->lock);
	return r;
}

/* record makes a request a part of the log, whose record it was read into. */
static void record(struct request *r, uint64_t position, uint32_t length)
{
	struct cairn_fuse *v = r->v;
	uint64_t end = position + (length + RECORD_ALIGN - 1) / RECORD_ALIGN * RECORD_ALIGN;
	pthread_mutex_lock(&v->lock);
	r->logged = true;
	r->position = position;
	r->prev = v->newest;
	if (v->newest)
		v->newest->next = r;
	else
		v->oldest = r;
	v->newest = r;
	if (atomic_load(&v->log->head) == atomic_load(&v->log->tail))
		v->flushed_at = now_ms();
	atomic_store(&v->log->tail, end);
	pthread_mutex_unlock(&v->lock);
}

/* completed is the position up to which all requests have ended. */
static uint64_t completed(struct cairn_fuse *v)
{
	return v->oldest ? v->oldest->position : atomic_load(&v->log->tail);
}

static void advance(struct cairn_fuse *v, uint64_t position)
{
	if (position > atomic_load(&v->log->head))
		atomic_store(&v->log->head, position);
	pthread_cond_broadcast(&v->changed);
}

static void unlog(struct request *r)
{
	struct cairn_fuse *v = r->v;
	*(r->prev ? &r->prev->next : &v->oldest) = r->next;
	*(r->next ? &r->next->prev : &v->newest) = r->prev;
	if (!v->write_back) /* it is stable already */
		advance(v, completed(v));
}

static void note_flush(struct request *r, int error)
{
	struct cairn_fuse *v = r->v;
	if (r->unique == 0)
		v->flushing = false;
	v->flush_error = error;
	if (error == 0)
		advance(v, r->position);
	pthread_cond_broadcast(&v->changed);
}

static void answer(struct request *r, int result)
{
	struct cairn_fuse *v = r->v;
	struct fuse_write_out written = { .size = r->size };
	if (result < 0)
		reply(v, r->unique, refused(v, r->opcode, result), NULL, 0);
	else if (r->opcode == FUSE_READ)
		reply(v, r->unique, 0, r->data, result);
	else if (r->opcode == FUSE_WRITE)
		reply(v, r->unique, 0, &written, sizeof(written));
	else
		reply(v, r->unique, 0, NULL, 0);
}

static void end(struct request *r, int result)
{
	struct cairn_fuse *v = r->v;
	pthread_mutex_lock(&v->lock);
	if (r->logged)
		unlog(r);
	if (r->opcode == FUSE_FSYNC)
		note_flush(r, result);
	pthread_mutex_unlock(&v->lock);
	if (r->unique)
		answer(r, result);
	pthread_mutex_lock(&v->lock);
	if (r->data) {
		v->reading -= r->size;
		give_buffer(r->data, r->size);
	}
	v->under_way--;
	pthread_cond_broadcast(&v->changed);
	pthread_mutex_unlock(&v->lock);
	free(r);
}

/* part ends one of the calls that a request was made of. */
static void part(struct request *r, int result)
{
	if (result < 0)
		atomic_store(&r->error, result);
	if (atomic_fetch_sub(&r->parts, 1) == 1) {
		int error = atomic_load(&r->error);
		end(r, error ? error : result);
	}
}

static void on_complete(rbd_completion_t c, void *arg)
{
	int result = rbd_aio_get_return_value(c);
	rbd_aio_release(c);
	part(arg, result);
}

/* submit hands one call to librbd; what it refuses at once ends here. */
#define submit(r, call, ...)                                                            \
	do {                                                                            \
		rbd_completion_t c_;                                                    \
		int e_ = rbd_aio_create_completion((r), on_complete, &c_);              \
		if (e_ == 0 && (e_ = call(__VA_ARGS__, c_)) < 0)                        \
			rbd_aio_release(c_);                                            \
		if (e_ < 0)                                                             \
			part((r), e_);                                                  \
	} while (0)

static int aio_zero(rbd_image_t image, uint64_t offset, uint64_t length, rbd_completion_t c)
{
	return rbd_aio_write_zeroes(image, offset, length, c, 0, 0);
}

/* The log's memory. */

/* flush makes what is in the log stable; one such flush runs at a time. */
static void flush_log(struct cairn_fuse *v)
{
	struct request *r;
	pthread_mutex_lock(&v->lock);
	bool busy = v->flushing || !v->write_back;
	v->flushing = v->flushing || !busy;
	pthread_mutex_unlock(&v->lock);
	if (busy)
		return;
	v->flushed_at = now_ms();
	if ((r = begin(v, NULL)) == NULL) {
		pthread_mutex_lock(&v->lock);
		v->flushing = false;
		pthread_mutex_unlock(&v->lock);
		return;
	}
	pthread_mutex_lock(&v->lock);
	r->position = completed(v);
	pthread_mutex_unlock(&v->lock);
	submit(r, rbd_aio_flush, v->image);
}

/* hold notes where the memory that is there begins and ends. */
static void hold(struct cairn_fuse *v, uint64_t punched, uint64_t populated)
{
	atomic_fetch_add(&resident, (int64_t)(populated - punched) - (int64_t)(v->populated - v->punched));
	v->punched = punched;
	v->populated = populated;
}

/* span is how much of the ring is in one piece from a position on, at most up to to. */
static uint64_t span(uint64_t from, uint64_t to)
{
	uint64_t rest = CAIRN_LOG_SIZE - from % CAIRN_LOG_SIZE;
	return to - from < rest ? to - from : rest;
}

/* reclaim frees the chunks that no record is in any more, if memory is wanted. */
static void reclaim(struct cairn_fuse *v)
{
	uint64_t to = atomic_load(&v->log->head) / CAIRN_LOG_CHUNK * CAIRN_LOG_CHUNK;
	if (atomic_load(&resident) <= KEEP_BYTES)
		return;
	while (v->punched < to) {
		uint64_t size = span(v->punched, to);
		(void)fallocate(v->log_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE + v->punched % CAIRN_LOG_SIZE, size);
		hold(v, v->punched + size, v->populated < v->punched + size ? v->punched + size : v->populated);
	}
}

/* give_back frees all of an empty log's memory. */
static void give_back(struct cairn_fuse *v)
{
	uint64_t at = atomic_load(&v->log->tail) / CAIRN_LOG_CHUNK * CAIRN_LOG_CHUNK;
	(void)fallocate(v->log_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, CAIRN_LOG_SIZE);
	hold(v, at, at);
	free_buffers();
}

/* populate makes the memory that a request is read into be there: where the
 * kernel has to wait for memory while it copies, the death of this process would
 * fail the request. */
static bool populate(struct cairn_fuse *v, uint64_t to)
{
	to = (to + PAGE - 1) / PAGE * PAGE;
	while (v->populated < to) {
		uint64_t size = span(v->populated, to);
		if (madvise(v->ring + v->populated % CAIRN_LOG_SIZE, size, MADV_POPULATE_WRITE) != 0)
			return false;
		hold(v, v->punched, v->populated + size);
	}
	/* Memory of the round before is used again. */
	if (v->populated - v->punched > CAIRN_LOG_SIZE)
		hold(v, v->populated - CAIRN_LOG_SIZE, v->populated);
	return true;
}

/* fits is the position of the next record: one never wraps around. */
static uint64_t fits(uint64_t position)
{
	if (CAIRN_LOG_SIZE - position % CAIRN_LOG_SIZE < WINDOW)
		position = (position / CAIRN_LOG_SIZE + 1) * CAIRN_LOG_SIZE;
	return position;
}

/* room waits until a request can be read. False: only into the scratch window,
 * because the log is full and cannot be flushed. */
static bool room(struct cairn_fuse *v, uint64_t *position)
{
	uint64_t tail = atomic_load(&v->log->tail), head = atomic_load(&v->log->head);
	*position = fits(tail);
	if (head < tail && (tail - head >= FLUSH_BYTES || now_ms() - v->flushed_at >= FLUSH_MS))
		flush_log(v);
	for (;;) {
		reclaim(v);
		bool full = *position + WINDOW > atomic_load(&v->log->head) + CAIRN_LOG_SIZE;
		if (!full && v->reading < MAX_READING)
			break;
		if (full)
			flush_log(v);
		pthread_mutex_lock(&v->lock);
		bool broken = full && v->flush_error;
		if (!broken && !v->stopping && v->under_way)
			pthread_cond_wait(&v->changed, &v->lock);
		pthread_mutex_unlock(&v->lock);
		if (broken || v->stopping)
			return false;
	}
	while (!populate(v, *position + WINDOW)) { /* the node is out of memory */
		struct pollfd stop = { v->stop, POLLIN, 0 };
		if (poll(&stop, 1, RETRY_MS) != 0)
			return false;
	}
	return true;
}

/* The requests. */

static void do_init(struct cairn_fuse *v, const struct fuse_in_header *in, const struct fuse_init_in *init)
{
	const uint64_t wanted = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO | FUSE_MAX_PAGES |
		FUSE_INIT_EXT | FUSE_HAS_RESEND;
	uint64_t flags = init->flags;
	if (flags & FUSE_INIT_EXT)
		flags |= (uint64_t)init->flags2 << 32;
	flags &= wanted;
	v->log->init_flags = flags;
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = init->minor < FUSE_KERNEL_MINOR_VERSION ? init->minor : FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = init->max_readahead,
		.flags = flags,
		.flags2 = flags >> 32,
		.max_background = MAX_BACKGROUND,
		.congestion_threshold = MAX_BACKGROUND,
		.max_write = CAIRN_MAX_WRITE,
		.max_pages = CAIRN_MAX_WRITE / PAGE,
		.time_gran = 1,
	};
	reply(v, in->unique, 0, &out, sizeof(out));
}

/* attributes are never cached: the image may grow. */
static int attributes(struct cairn_fuse *v, uint64_t inode, struct fuse_attr *attr)
{
	memset(attr, 0, sizeof(*attr));
	attr->ino = inode;
	attr->nlink = 1;
	attr->blksize = PAGE;
	attr->mode = S_IFDIR | 0500;
	if (inode == ROOT)
		return 0;
	attr->mode = S_IFREG | 0600;
	int error = rbd_get_size(v->image, &attr->size);
	attr->blocks = attr->size / 512;
	return error;
}

static void do_lookup(struct cairn_fuse *v, const struct fuse_in_header *in, const char *name)
{
	struct fuse_entry_out out = { .nodeid = FILE_INODE, .generation = 1 };
	int error = -ENOENT;
	if (in->nodeid == ROOT && strncmp(name, v->name, sizeof(v->name)) == 0 &&
	    (error = attributes(v, FILE_INODE, &out.attr)) < 0)
		error = refused(v, in->opcode, error);
	reply(v, in->unique, error, &out, error ? 0 : sizeof(out));
}

static void do_getattr(struct cairn_fuse *v, const struct fuse_in_header *in)
{
	struct fuse_attr_out out = { 0 };
	int error = attributes(v, in->nodeid, &out.attr);
	if (error < 0)
		error = refused(v, in->opcode, error);
	reply(v, in->unique, error, &out, error ? 0 : sizeof(out));
}

/* do_open lets requests past the page cache, and writes beside each other. */
static void do_open(struct cairn_fuse *v, const struct fuse_in_header *in, const struct fuse_open_in *open)
{
	/* Without a flush at close: a process that is killed while it attaches has the file
	 * open, and would wait at its end for an answer from itself; its successor for it. */
	struct fuse_open_out out = { .open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES | FOPEN_NOFLUSH };
	if (v->read_only && (open->flags & O_ACCMODE) != O_RDONLY)
		reply(v, in->unique, -EROFS, NULL, 0);
	else
		reply(v, in->unique, 0, &out, sizeof(out));
}

static void do_read(struct cairn_fuse *v, const struct fuse_in_header *in, const struct fuse_read_in *read)
{
	struct request *r = begin(v, in);
	char *data = NULL;
	if (r == NULL) {
		reply(v, in->unique, -ENOMEM, NULL, 0);
		return;
	}
	if (read->size > CAIRN_MAX_WRITE || (data = take_buffer(read->size)) == NULL) {
		end(r, -ENOMEM);
		return;
	}
	r->data = data;
	r->size = read->size;
	pthread_mutex_lock(&v->lock);
	v->reading += r->size;
	pthread_mutex_unlock(&v->lock);
	v->counters.reads++;
	submit(r, rbd_aio_read, v->image, read->offset, read->size, data);
}

static void do_flush(struct cairn_fuse *v, const struct fuse_in_header *in)
{
	struct request *r = begin(v, in);
	if (r == NULL) {
		reply(v, in->unique, -ENOMEM, NULL, 0);
		return;
	}
	pthread_mutex_lock(&v->lock);
	r->position = completed(v);
	pthread_mutex_unlock(&v->lock);
	v->counters.flushes++;
	submit(r, rbd_aio_flush, v->image);
}

static void do_write(struct request *r, const struct fuse_write_in *write)
{
	struct cairn_fuse *v = r->v;
	r->size = write->size;
	v->counters.writes++;
	submit(r, rbd_aio_write, v->image, write->offset, write->size, (const char *)(write + 1));
}

/* do_zero makes a range read as zeroes, which a hole must do: the loop driver
 * punches one to write zeroes too, and Ceph's discard may leave the edges of a
 * range as they were. librbd's zeroing frees what it can. */
static void do_zero(struct request *r, const struct fuse_fallocate_in *range)
{
	struct cairn_fuse *v = r->v;
	v->counters.zeroes++;
	for (uint64_t done = 0; done < range->length; done += zero_chunk) {
		uint64_t size = range->length - done < zero_chunk ? range->length - done : zero_chunk;
		atomic_fetch_add(&r->parts, 1);
		submit(r, aio_zero, v->image, range->offset + done, size);
	}
	part(r, 0);
}

static bool zeroes(const struct fuse_fallocate_in *range)
{
	uint32_t mode = range->mode & ~FALLOC_FL_KEEP_SIZE;
	return mode == FALLOC_FL_PUNCH_HOLE || mode == FALLOC_FL_ZERO_RANGE;
}

/* change carries out what changes the image; from the log alone. */
static void change(struct cairn_fuse *v, const struct fuse_in_header *in, bool logged, uint64_t position)
{
	const void *body = in + 1;
	int error = 0;
	struct request *r = NULL;
	if (v->read_only)
		error = -EROFS;
	else if (in->opcode == FUSE_FALLOCATE && !zeroes(body))
		error = -EOPNOTSUPP;
	else if (!logged)
		error = refused(v, in->opcode, v->flush_error ? v->flush_error : -EIO);
	else if ((r = begin(v, in)) == NULL)
		error = -ENOMEM;
	if (error) {
		reply(v, in->unique, error, NULL, 0);
		return;
	}
	record(r, position, in->len);
	if (in->opcode == FUSE_WRITE)
		do_write(r, body);
	else
		do_zero(r, body);
}

static void handle(struct cairn_fuse *v, const struct fuse_in_header *in, bool logged, uint64_t position)
{
	static const struct fuse_statfs_out statfs = { .st = { .bsize = PAGE, .frsize = PAGE, .namelen = 255 } };
	const void *body = in + 1;
	switch (in->opcode) {
	case FUSE_READ:
		return do_read(v, in, body);
	case FUSE_WRITE:
	case FUSE_FALLOCATE:
		return change(v, in, logged, position);
	case FUSE_FSYNC:
		return do_flush(v, in);
	case FUSE_GETATTR:
		return do_getattr(v, in);
	case FUSE_SETATTR: /* the image alone has its size */
		if (((const struct fuse_setattr_in *)body)->valid & FATTR_SIZE)
			return reply(v, in->unique, -EPERM, NULL, 0);
		return do_getattr(v, in);
	case FUSE_LOOKUP:
		return do_lookup(v, in, body);
	case FUSE_OPEN:
		return do_open(v, in, body);
	case FUSE_INIT:
		return do_init(v, in, body);
	case FUSE_STATFS:
		return reply(v, in->unique, 0, &statfs, sizeof(statfs));
	case FUSE_FLUSH: /* a descriptor is closed: promises nothing */
	case FUSE_RELEASE:
	case FUSE_DESTROY:
		return reply(v, in->unique, 0, NULL, 0);
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		return; /* want no answer */
	}
	reply(v, in->unique, -ENOSYS, NULL, 0);
}

/* idle waits for a request, and meanwhile puts the log in order. */
static void idle(struct cairn_fuse *v)
{
	struct pollfd fds[] = { { v->device, POLLIN, 0 }, { v->stop, POLLIN, 0 } };
	for (;;) {
		bool filled = atomic_load(&v->log->head) != atomic_load(&v->log->tail);
		if (poll(fds, 2, filled || v->populated > v->punched ? IDLE_MS : -1) != 0)
			return;
		if (filled)
			flush_log(v);
		else
			give_back(v);
	}
}

/* admit waits while requests are held, and counts the one that is about to be
 * read as under way. False when it is being stopped. */
static bool admit(struct cairn_fuse *v)
{
	pthread_mutex_lock(&v->lock);
	while (v->held && !v->stopping)
		pthread_cond_wait(&v->changed, &v->lock);
	bool go = !v->stopping;
	v->under_way += go;
	pthread_mutex_unlock(&v->lock);
	return go;
}

static void leave(struct cairn_fuse *v)
{
	pthread_mutex_lock(&v->lock);
	if (--v->under_way == 0)
		pthread_cond_broadcast(&v->changed);
	pthread_mutex_unlock(&v->lock);
}

static void *serve(void *arg)
{
	struct cairn_fuse *v = arg;
	uint64_t position;
	bool wait = true;
	while (!atomic_load(&v->stopping)) {
		if (wait)
			idle(v);
		wait = false;
		bool logged = room(v, &position);
		char *at = logged ? v->ring + position % CAIRN_LOG_SIZE : v->scratch;
		if (!admit(v))
			break;
		ssize_t n = read(v->device, at, WINDOW);
		int error = n < 0 ? errno : 0;
		if (n >= (ssize_t)sizeof(struct fuse_in_header))
			handle(v, (const struct fuse_in_header *)at, logged, position);
		else
			wait = error == 0 || error == EAGAIN;
		leave(v);
		if (error && error != EAGAIN && error != EINTR && error != ENOENT)
			break; /* ENODEV: the kernel let go of the file */
	}
	pthread_mutex_lock(&v->lock);
	while (v->under_way)
		pthread_cond_wait(&v->changed, &v->lock);
	pthread_mutex_unlock(&v->lock);
	close(v->events);
	v->events = -1;
	return NULL;
}

/* Its life. */

/* adopt takes the log as another process left it, or makes it. */
static int adopt(struct cairn_fuse *v)
{
	struct log_header *log = v->log;
	uint64_t head = atomic_load(&log->head), tail = atomic_load(&log->tail);
	if (head == tail) {
		log->magic = log_magic;
		log->size = CAIRN_LOG_SIZE;
	}
	if (log->magic != log_magic || log->size != CAIRN_LOG_SIZE)
		return -EPROTO;
	if (head == tail)
		give_back(v);
	else
		hold(v, head / CAIRN_LOG_CHUNK * CAIRN_LOG_CHUNK, tail / PAGE * PAGE);
	return 0;
}

int cairn_fuse_new(rbd_image_t image, const struct cairn_fuse_options *o, struct cairn_fuse **served)
{
	const size_t size = PAGE + CAIRN_LOG_SIZE;
	struct cairn_fuse *v = calloc(1, sizeof(*v));
	int error = -ENOMEM;
	if (v == NULL)
		return error;
	v->stop = -1;
	char *map = mmap(NULL, size + WINDOW, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED)
		goto failed;
	v->log = (struct log_header *)map;
	if (ftruncate(o->log, size) != 0 ||
	    mmap(map, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, o->log, 0) == MAP_FAILED)
		goto failed;
	(void)mlock2(map, size, MLOCK_ONFAULT);
	if ((v->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
		goto failed;
	v->ring = map + PAGE;
	v->scratch = map + size;
	v->image = image;
	v->device = o->device;
	v->log_fd = o->log;
	v->events = o->events;
	v->read_only = o->read_only;
	v->write_back = o->write_back;
	strncpy(v->name, o->name, sizeof(v->name) - 1);
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->changed, NULL);
	errno = -(error = adopt(v));
	if (error != 0)
		goto failed;
	*served = v;
	return 0;
failed:
	error = -errno;
	if (v->stop >= 0)
		close(v->stop);
	if (v->log)
		munmap(v->log, size + WINDOW);
	free(v);
	return error;
}

static int replay_one(struct cairn_fuse *v, const struct fuse_in_header *in)
{
	if (in->opcode == FUSE_WRITE) {
		const struct fuse_write_in *write = (const void *)(in + 1);
		if (in->len != sizeof(*in) + sizeof(*write) + write->size)
			return -EBADMSG;
		ssize_t n = rbd_write(v->image, write->offset, write->size, (const char *)(write + 1));
		return n < 0 ? n : 0;
	}
	const struct fuse_fallocate_in *range = (const void *)(in + 1);
	if (in->opcode != FUSE_FALLOCATE || in->len != sizeof(*in) + sizeof(*range))
		return -EBADMSG;
	for (uint64_t done = 0; done < range->length; done += zero_chunk) {
		uint64_t size = range->length - done < zero_chunk ? range->length - done : zero_chunk;
		ssize_t n = rbd_write_zeroes(v->image, range->offset + done, size, 0, 0);
		if (n < 0)
			return n;
	}
	return 0;
}

int cairn_fuse_replay(struct cairn_fuse *v)
{
	uint64_t tail = atomic_load(&v->log->tail);
	if (!v->write_back) { /* what was acknowledged is stable, and may not be the newest */
		atomic_store(&v->log->head, tail);
		return 0;
	}
	/* librbd's cache writes through until the first flush. */
	int error = rbd_flush(v->image);
	for (uint64_t at = fits(atomic_load(&v->log->head)); error == 0 && at < tail; at = fits(at)) {
		const struct fuse_in_header *in = (const void *)(v->ring + at % CAIRN_LOG_SIZE);
		if (in->len < sizeof(*in) || in->len > WINDOW)
			return -EBADMSG;
		error = replay_one(v, in);
		at += (in->len + RECORD_ALIGN - 1) / RECORD_ALIGN * RECORD_ALIGN;
		v->counters.replayed++;
	}
	return error;
}

int cairn_fuse_start(struct cairn_fuse *v, bool resend)
{
	if (resend) {
		struct fuse_out_header out = { .len = sizeof(out), .error = FUSE_NOTIFY_RESEND };
		if (write(v->device, &out, sizeof(out)) < 0)
			return -errno;
	}
	pthread_attr_t attr;
	sigset_t all, old;
	v->flushed_at = now_ms();
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int error = pthread_create(&v->reader, &attr, serve, v);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	v->started = error == 0;
	return -error;
}

bool cairn_fuse_hold(struct cairn_fuse *v)
{
	pthread_mutex_lock(&v->lock);
	v->held = true;
	while (v->under_way && !v->stopping)
		pthread_cond_wait(&v->changed, &v->lock);
	bool held = !v->stopping;
	pthread_mutex_unlock(&v->lock);
	return held;
}

void cairn_fuse_go(struct cairn_fuse *v)
{
	pthread_mutex_lock(&v->lock);
	v->held = false;
	pthread_cond_broadcast(&v->changed);
	pthread_mutex_unlock(&v->lock);
}

void cairn_fuse_stop(struct cairn_fuse *v)
{
	uint64_t one = 1;
	pthread_mutex_lock(&v->lock);
	atomic_store(&v->stopping, true);
	pthread_cond_broadcast(&v->changed);
	pthread_mutex_unlock(&v->lock);
	ssize_t n = write(v->stop, &one, sizeof(one));
	(void)n;
	if (v->started)
		pthread_join(v->reader, NULL);
	v->started = false;
}

int cairn_fuse_flush(struct cairn_fuse *v)
{
	int error = v->read_only ? 0 : rbd_flush(v->image);
	if (error == 0)
		atomic_store(&v->log->head, atomic_load(&v->log->tail));
	return error;
}

void cairn_fuse_free(struct cairn_fuse *v)
{
	hold(v, 0, 0);
	if (v->events >= 0)
		close(v->events);
	close(v->stop);
	munmap(v->log, PAGE + CAIRN_LOG_SIZE + WINDOW);
	pthread_cond_destroy(&v->changed);
	pthread_mutex_destroy(&v->lock);
	free(v);
}

bool cairn_fuse_resends(struct cairn_fuse *v)
{
	return (v->log->init_flags & FUSE_HAS_RESEND) != 0;
}

void cairn_fuse_count(struct cairn_fuse *v, struct cairn_fuse_counters *out)
{
	*out = v->counters;
}
