/* Faults at the calls by which a process changes a folder: it is killed, the power fails, the disk is full or broken.
 *
 * The calls are caught by the kernel: a seccomp filter makes each a SIGSYS, and the handler does what the call would
 * have done, or the fault. So nothing gets past: neither stdio, whose writes do not leave libc by a name that could be
 * interposed, nor Rust's rustix, which makes its system calls itself. The library comes by LD_PRELOAD, so that programs
 * that an armed process starts have the handler too; their calls are neither counted nor failed.
 *
 * What a failing power leaves. A file's data since its last fsync: of each write, all, nothing, or what is on one
 * side of a border between sectors; a sector holds what it held at some moment since the fsync. Names since the last
 * fsync of their folder: a folder's operations come to disk in their order, and are lost from some point on; folders do
 * not wait for each other, but an operation of two folders is done in both or in neither. The fsync of a file says
 * nothing of its name.
 *
 * The handler allocates from its own pages and makes its own system calls, so it may interrupt anything. Files are held
 * open from their first change on: for their inode to stay, and since closing any descriptor of a file would drop the
 * process's POSIX locks on it.
 */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef __x86_64__
#error "registers and system calls are those of x86-64"
#endif

#define EXPORT __attribute__((visibility("default")))
#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1 /* si_code of a trap */
#endif

#define MAGIC 0x5eedfa0175c0ffeeL /* as the sixth argument: the call is the handler's own */

enum { SECTOR = 512, TRACE = 4 << 20, CHUNK = 1 << 20, VECTORS = 1024 };
enum { COUNT, KILL_BEFORE, KILL_AFTER, POWER, NO_SPACE, BROKEN, SHORT };      /* modes */
enum { STICKY = 1, SHORT_FIRST = 2 };                                         /* bits of the seed of a broken disk */
enum { WRITE, RESIZE, ALLOCATE, OPEN, CREATE, LINK, UNLINK, RENAME, SYNC };   /* kinds of calls */

/* Before and after a change of a file's bytes; the range is of whole sectors, but ends where the file does. */
typedef struct Event {
    off_t start, end, old_size, new_size;
    char *old, *new;
    off_t old_length, new_length;
    struct Event *previous, *next;
} Event;

typedef struct Inode {
    dev_t device;
    ino_t number;
    int fd;
    Event *first, *last; /* since the last fsync */
    bool cut;            /* as a folder: its operations are lost from here on */
    long left;           /* as a folder: operations that are still kept */
    struct Inode *next;
} Inode;

/* A change of names: of a folder's, or from one folder to another. */
typedef struct Operation {
    int kind, flags;
    Inode *from, *to; /* folders; `to` alone but for a rename */
    char old_name[NAME_MAX + 1], name[NAME_MAX + 1];
    Inode *gone;  /* the file that lost its name */
    long stashed; /* or what else did: its number in the stash */
    bool durable, lost;
    struct Operation *previous, *next;
} Operation;

/* A name in a folder. */
typedef struct {
    int fd; /* the folder's */
    char name[NAME_MAX + 1];
    char path[PATH_MAX];
} Place;

typedef struct {
    long number, arguments[5];
    int kind;
    const char *title;
    int fd;     /* of the file that it changes */
    bool owned; /* whether the handler opened `fd` */
    bool synchronous, allocates;
    off_t start, length;
    char path[PATH_MAX];
    Place from, to;
} Call;

/* Shared with the process that forks, which reads it when this one is dead. */
typedef struct {
    volatile long calls;
    volatile long used;
    char trace[TRACE];
} Shared;

static Shared *shared;
static char folder[PATH_MAX];
static size_t folder_length;
static volatile int armed, locked;
static long trigger;
static int mode, stash = -1;
static unsigned seed;
static uint64_t random_state;
static Inode *inodes;
static Operation *first_operation, *last_operation;
static long stashed;
static struct iovec half[VECTORS];

/* --- Without libc ------------------------------------------------------------------------------------------------ */

static long raw(long number, long a, long b, long c, long d, long e, long f) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#define ARGUMENTS_5(n, a, b, c, d, e, ...) raw(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), MAGIC)
#define CALL(...) ARGUMENTS_5(__VA_ARGS__, 0, 0, 0, 0, 0)

static void die(void) {
    CALL(SYS_kill, CALL(SYS_getpid), SIGKILL);
    for (;;) CALL(SYS_pause);
}

/* The simulation would be wrong from here on. */
static void fail(const char *what) {
    CALL(SYS_write, 2, "faults: ", 8);
    CALL(SYS_write, 2, what, strlen(what));
    CALL(SYS_write, 2, "\n", 1);
    CALL(SYS_exit_group, 99);
}

static long must(long result, const char *what) {
    if (result < 0) fail(what);
    return result;
}

static void *allocate(size_t size) {
    static char *chunk;
    static size_t left;
    size = (size + 15) / 16 * 16;
    if (size > left) {
        left = size > CHUNK ? size : CHUNK;
        long pages = raw(SYS_mmap, 0, (long)left, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        chunk = (char *)must(pages, "no memory");
    }
    left -= size;
    chunk += size;
    return chunk - size;
}

static char *append(char *to, const char *end, const char *text) {
    while (*text && to < end - 1) *to++ = *text++;
    *to = 0;
    return to;
}

static char *append_number(char *to, const char *end, long number) {
    char digits[24], *digit = digits + sizeof digits - 1;
    *digit = 0;
    do *--digit = (char)('0' + number % 10);
    while (number /= 10);
    return append(to, end, digit);
}

static void descriptor_path(char path[64], int fd) {
    append_number(append(path, path + 64, "/proc/self/fd/"), path + 64, fd);
}

/* Where an open file stands, or "". */
static void path_of(int fd, char path[PATH_MAX]) {
    char link[64];
    descriptor_path(link, fd);
    long length = CALL(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
}

static bool below(const char *path) { return !strncmp(path, folder, folder_length) && path[folder_length] == '/'; }

static long status(int fd, struct stat *about) { return CALL(SYS_fstat, fd, about); }

static long status_at(const Place *place, struct stat *about) {
    return CALL(SYS_newfstatat, place->fd, place->name, about, AT_SYMLINK_NOFOLLOW);
}

/* SplitMix64. */
static uint64_t chance(uint64_t below_this) {
    uint64_t z = random_state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (z ^ z >> 31) % below_this;
}

static void lock(void) {
    while (__atomic_exchange_n(&locked, 1, __ATOMIC_ACQUIRE)) CALL(SYS_sched_yield);
}

static void unlock(void) { __atomic_store_n(&locked, 0, __ATOMIC_RELEASE); }

/* --- What a call is ---------------------------------------------------------------------------------------------- */

static bool locate(Place *place, int base, const char *path) {
    char parent[PATH_MAX];
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    size_t start = length;
    while (start && path[start - 1] != '/') start--;
    if (length == start || length - start > NAME_MAX || start >= PATH_MAX - 2) return false;
    memcpy(place->name, path + start, length - start);
    place->name[length - start] = 0;
    memcpy(parent, start ? path : ".", start ? start : 1);
    parent[start ? start : 1] = 0;
    place->fd = (int)CALL(SYS_openat, base, parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (place->fd < 0) return false;
    path_of(place->fd, place->path);
    char *end = place->path + PATH_MAX;
    append(append(place->path + strlen(place->path), end, "/"), end, place->name);
    return true;
}

static off_t vector_length(const struct iovec *vector, long count) {
    off_t length = 0;
    for (long i = 0; i < count; i++) length += (off_t)vector[i].iov_len;
    return length;
}

static bool writes(Call *call, const char *title, long fd, off_t start, off_t length) {
    struct stat about;
    call->kind = WRITE;
    call->title = title;
    call->fd = (int)fd;
    call->length = length;
    call->allocates = true;
    path_of(call->fd, call->path);
    if (!below(call->path) || status(call->fd, &about) || !S_ISREG(about.st_mode)) return false;
    long flags = CALL(SYS_fcntl, fd, F_GETFL);
    call->synchronous = flags & O_DSYNC;
    if (flags & O_APPEND) start = about.st_size; /* even where an offset is given */
    call->start = start < 0 ? CALL(SYS_lseek, fd, 0, SEEK_CUR) : start;
    return true;
}

static bool resizes(Call *call, const char *title, int fd, off_t size) {
    struct stat about;
    call->kind = RESIZE;
    call->title = title;
    call->fd = fd;
    path_of(fd, call->path);
    if (!below(call->path) || status(fd, &about) || !S_ISREG(about.st_mode)) return false;
    call->start = size < about.st_size ? size : about.st_size;
    call->length = size < about.st_size ? about.st_size - size : size - about.st_size;
    call->allocates = size > about.st_size;
    return true;
}

static bool allocates(Call *call, long fd, int how, off_t start, off_t length) {
    struct stat about;
    call->kind = ALLOCATE;
    call->title = "fallocate";
    call->fd = (int)fd;
    call->allocates = true;
    path_of(call->fd, call->path);
    if (!below(call->path) || status(call->fd, &about)) return false;
    bool shifts = how & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE);
    call->start = start;
    call->length = shifts && about.st_size > start ? about.st_size - start : length;
    return true;
}

static bool syncs(Call *call, const char *title, int fd) {
    call->kind = SYNC;
    call->title = title;
    call->fd = fd;
    if (fd < 0) return true;
    path_of(fd, call->path);
    return below(call->path) || !strcmp(call->path, folder);
}

static bool names(Call *call, int kind, const char *title, long base, long path) {
    call->kind = kind;
    call->title = title;
    call->allocates = kind == CREATE || kind == LINK || kind == OPEN;
    if (!locate(&call->to, (int)base, (const char *)path)) return false;
    append(call->path, call->path + PATH_MAX, call->to.path);
    return below(call->path);
}

/* Only an open that makes a file or cuts one off counts. */
static bool opens(Call *call, long base, const char *path, uint64_t flags) {
    call->kind = OPEN;
    call->title = "open";
    bool unnamed = (flags & O_TMPFILE) == O_TMPFILE;
    if (!unnamed && !(flags & (O_CREAT | O_TRUNC))) return false;
    int fd = (int)CALL(SYS_openat, base, path, O_PATH | O_CLOEXEC | (flags & O_NOFOLLOW));
    if (fd == -ENOENT && flags & O_CREAT) return names(call, OPEN, "open", base, (long)path);
    if (fd < 0) return false;
    call->owned = true;
    call->fd = fd;
    if (unnamed) {
        path_of(fd, call->path);
        call->allocates = true;
        return below(call->path) || !strcmp(call->path, folder);
    }
    if (flags & O_EXCL || !(flags & O_TRUNC)) return false;
    return resizes(call, "open", fd, 0);
}

static bool renames(Call *call) {
    long *a = call->arguments;
    call->kind = RENAME;
    call->title = "rename";
    if (!locate(&call->from, (int)a[0], (char *)a[1]) || !locate(&call->to, (int)a[2], (char *)a[3])) return false;
    append(call->path, call->path + PATH_MAX, call->from.path);
    return below(call->from.path) || below(call->to.path);
}

/* Whether a line of /proc/self/maps, "start-end mode offset device inode path", is of an address. */
static bool covers(const char *line, unsigned long address) {
    unsigned long border[2] = {0, 0};
    int side = 0;
    for (const char *digit = line; *digit && *digit != ' '; digit++) {
        if (*digit == '-') side = 1;
        else border[side] = border[side] * 16 + (unsigned long)(*digit <= '9' ? *digit - '0' : *digit - 'a' + 10);
    }
    return border[0] <= address && address < border[1];
}

static bool syncs_mapping(Call *call, unsigned long address) {
    char line[PATH_MAX + 128], block[1024];
    size_t length = 0;
    int fd = (int)CALL(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC);
    bool found = false;
    for (long got; !found && (got = CALL(SYS_read, fd, block, sizeof block)) > 0;) {
        for (long i = 0; i < got && !found; i++) {
            if (length < sizeof line - 1) line[length++] = block[i];
            if (block[i] != '\n') continue;
            line[length - 1] = 0;
            length = 0;
            found = covers(line, address);
        }
    }
    CALL(SYS_close, fd);
    char *path = found ? strchr(line, '/') : NULL;
    call->kind = SYNC;
    call->title = "msync";
    if (!path || !below(path)) return false;
    append(call->path, call->path + PATH_MAX, path);
    /* To say which file it is; never closed, see above. */
    if (mode == POWER) call->fd = (int)CALL(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    return true;
}

static void set(Call *call, long number, long a, long b, long c, long d, long e) {
    long arguments[5] = {a, b, c, d, e};
    call->number = number;
    memcpy(call->arguments, arguments, sizeof arguments);
}

/* Write a call as the most general of its family, with five arguments at most: the sixth is the handler's mark. */
static void normalize(Call *call, long number, const long *a) {
    const long here = AT_FDCWD;
    switch (number) {
    case SYS_open: set(call, SYS_openat, here, a[0], a[1], a[2], 0); break;
    case SYS_creat: set(call, SYS_openat, here, a[0], O_CREAT | O_WRONLY | O_TRUNC, a[1], 0); break;
    case SYS_mkdir: set(call, SYS_mkdirat, here, a[0], a[1], 0, 0); break;
    case SYS_mknod: set(call, SYS_mknodat, here, a[0], a[1], a[2], 0); break;
    case SYS_symlink: set(call, SYS_symlinkat, a[0], here, a[1], 0, 0); break;
    case SYS_link: set(call, SYS_linkat, here, a[0], here, a[1], 0); break;
    case SYS_unlink: set(call, SYS_unlinkat, here, a[0], 0, 0, 0); break;
    case SYS_rmdir: set(call, SYS_unlinkat, here, a[0], AT_REMOVEDIR, 0, 0); break;
    case SYS_rename: set(call, SYS_renameat2, here, a[0], here, a[1], 0); break;
    case SYS_renameat: set(call, SYS_renameat2, a[0], a[1], a[2], a[3], 0); break;
    case SYS_pwritev2: /* its flags are the sixth */
        if (a[5] & RWF_APPEND) fail("RWF_APPEND is not provided for");
        call->synchronous = a[5] & (RWF_DSYNC | RWF_SYNC);
        set(call, a[3] == -1 ? SYS_writev : SYS_pwritev, a[0], a[1], a[2], a[3], a[4]);
        break;
    default: set(call, number, a[0], a[1], a[2], a[3], a[4]);
    }
}

/* Fill in what the call changes; whether that is in the folder. */
static bool watched(Call *call) {
    long *a = call->arguments;
    bool synchronous = call->synchronous, found;
    switch (call->number) {
    case SYS_write: return writes(call, "write", a[0], -1, a[2]);
    case SYS_pwrite64: return writes(call, "pwrite", a[0], a[3], a[2]);
    case SYS_writev:
        found = writes(call, "writev", a[0], -1, vector_length((struct iovec *)a[1], a[2]));
        call->synchronous |= synchronous;
        return found;
    case SYS_pwritev:
        found = writes(call, "pwritev", a[0], a[3], vector_length((struct iovec *)a[1], a[2]));
        call->synchronous |= synchronous;
        return found;
    case SYS_sendfile: return writes(call, "sendfile", a[0], -1, a[3]);
    case SYS_copy_file_range: return writes(call, "copy_file_range", a[2], a[3] ? *(off_t *)a[3] : -1, a[4]);
    case SYS_ftruncate: return resizes(call, "ftruncate", (int)a[0], a[1]);
    case SYS_truncate: {
        int fd = (int)CALL(SYS_openat, AT_FDCWD, a[0], O_PATH | O_CLOEXEC);
        call->owned = fd >= 0;
        call->fd = fd;
        return fd >= 0 && resizes(call, "truncate", fd, a[1]);
    }
    case SYS_fallocate: return allocates(call, a[0], (int)a[1], a[2], a[3]);
    case SYS_openat: return opens(call, a[0], (char *)a[1], (uint64_t)(unsigned)a[2]);
    case SYS_openat2: return opens(call, a[0], (char *)a[1], ((struct open_how *)a[2])->flags);
    case SYS_mkdirat: return names(call, CREATE, "mkdir", a[0], a[1]);
    case SYS_mknodat: return names(call, CREATE, "mknod", a[0], a[1]);
    case SYS_symlinkat: return names(call, CREATE, "symlink", a[1], a[2]);
    case SYS_linkat: return names(call, LINK, "link", a[2], a[3]);
    case SYS_unlinkat: return names(call, UNLINK, a[2] & AT_REMOVEDIR ? "rmdir" : "unlink", a[0], a[1]);
    case SYS_renameat2: return renames(call);
    case SYS_fsync: return syncs(call, "fsync", (int)a[0]);
    case SYS_fdatasync: return syncs(call, "fdatasync", (int)a[0]);
    case SYS_sync_file_range: return syncs(call, "sync_file_range", (int)a[0]);
    case SYS_syncfs: return syncs(call, "syncfs", (int)a[0]);
    case SYS_sync: return syncs(call, "sync", -1);
    case SYS_msync: return syncs_mapping(call, (unsigned long)a[0]);
    default: return false;
    }
}

static long execute(Call *call) {
    long *a = call->arguments;
    if (call->number != SYS_copy_file_range) return raw(call->number, a[0], a[1], a[2], a[3], a[4], MAGIC);
    /* Six arguments; sendfile does the same to the descriptor's own place. */
    if (!a[3]) return CALL(SYS_sendfile, a[2], a[0], a[1], a[4]);
    long place = CALL(SYS_lseek, a[2], 0, SEEK_CUR);
    CALL(SYS_lseek, a[2], *(off_t *)a[3], SEEK_SET);
    long done = CALL(SYS_sendfile, a[2], a[0], a[1], a[4]);
    CALL(SYS_lseek, a[2], place, SEEK_SET);
    if (done > 0) *(off_t *)a[3] += done;
    return done;
}

/* --- What is not on disk yet ------------------------------------------------------------------------------------- */

static Inode *known(const struct stat *about) {
    for (Inode *inode = inodes; inode; inode = inode->next) {
        if (inode->number == about->st_ino && inode->device == about->st_dev) return inode;
    }
    return NULL;
}

static Inode *hold(const struct stat *about, int base, const char *path) {
    Inode *inode = known(about);
    if (inode) return inode;
    inode = allocate(sizeof *inode);
    *inode = (Inode){.device = about->st_dev, .number = about->st_ino, .next = inodes};
    inode->fd = (int)must(CALL(SYS_openat, base, path, O_RDONLY | O_CLOEXEC), "a changed file cannot be read");
    return inodes = inode;
}

static Inode *hold_open(int fd) {
    struct stat about;
    char link[64];
    must(status(fd, &about), "fstat");
    descriptor_path(link, fd);
    return hold(&about, AT_FDCWD, link);
}

static off_t read_range(int fd, off_t start, off_t end, char **bytes) {
    off_t done = 0;
    if (end <= start) return 0;
    *bytes = allocate((size_t)(end - start));
    while (start + done < end) {
        long got = must(CALL(SYS_pread64, fd, *bytes + done, end - start - done, start + done), "pread");
        if (!got) break;
        done += got;
    }
    return done;
}

static void write_range(int fd, off_t start, const char *bytes, off_t length) {
    for (off_t done = 0; done < length;) {
        done += must(CALL(SYS_pwrite64, fd, bytes + done, length - done, start + done), "pwrite");
    }
}

static off_t size_of(int fd) {
    struct stat about;
    must(status(fd, &about), "fstat");
    return about.st_size;
}

static long change_bytes(Call *call) {
    Inode *inode = hold_open(call->fd);
    Event *event = allocate(sizeof *event);
    *event = (Event){.old_size = size_of(inode->fd), .previous = inode->last};
    event->start = call->start / SECTOR * SECTOR;
    event->end = (call->start + call->length + SECTOR - 1) / SECTOR * SECTOR;
    off_t end = event->end < event->old_size ? event->end : event->old_size;
    event->old_length = read_range(inode->fd, event->start, end, &event->old);
    long result = execute(call);
    if (result < 0) return result;
    event->new_size = size_of(inode->fd);
    if (call->kind == WRITE) event->end = (call->start + result + SECTOR - 1) / SECTOR * SECTOR;
    *(inode->last ? &inode->last->next : &inode->first) = event;
    inode->last = event;
    if (call->synchronous) inode->first = inode->last = NULL;
    return result;
}

static void log_operation(Operation operation) {
    Operation *kept = allocate(sizeof *kept);
    *kept = operation;
    kept->previous = last_operation;
    kept->next = NULL;
    *(last_operation ? &last_operation->next : &first_operation) = kept;
    last_operation = kept;
}

static void copy_name(char *to, const char *name) { append(to, to + NAME_MAX + 1, name); }

/* Move something out of the folder, to where a name can be given back to it. */
static long put_aside(int base, const char *name) {
    char path[PATH_MAX], number[32];
    if (stash < 0) {
        append(append(path, path + PATH_MAX, folder), path + PATH_MAX, ".faults");
        CALL(SYS_mkdir, path, 0700);
        stash = (int)must(CALL(SYS_open, path, O_PATH | O_DIRECTORY | O_CLOEXEC), path);
    }
    append_number(number, number + 32, ++stashed);
    must(CALL(SYS_renameat2, base, name, stash, number), "rename to the stash");
    return stashed;
}

static void take_back(long which, int base, const char *name) {
    char number[32];
    append_number(number, number + 32, which);
    must(CALL(SYS_renameat2, stash, number, base, name), "rename from the stash");
}

static bool is_empty(const Place *place) {
    char entries[1024];
    int fd = (int)CALL(SYS_openat, place->fd, place->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC), count = 0;
    if (fd < 0) return false;
    for (long got; (got = CALL(SYS_getdents64, fd, entries, sizeof entries)) > 0;) {
        for (long at = 0; at < got; at += *(unsigned short *)(entries + at + 16)) count++;
    }
    CALL(SYS_close, fd);
    return count == 2; /* itself and its parent */
}

static long open_file(Call *call) {
    if (call->owned) { /* unnamed: there is no operation to lose */
        long result = execute(call);
        if (result >= 0) hold_open((int)result);
        return result;
    }
    long result = execute(call);
    if (result < 0) return result;
    hold_open((int)result);
    Operation operation = {.kind = CREATE, .to = hold_open(call->to.fd)};
    copy_name(operation.name, call->to.name);
    log_operation(operation);
    return result;
}

static long create_name(Call *call) {
    long result = execute(call);
    if (result < 0) return result;
    Operation operation = {.kind = CREATE, .to = hold_open(call->to.fd)};
    copy_name(operation.name, call->to.name);
    log_operation(operation);
    return result;
}

static long remove_name(Call *call) {
    struct stat about;
    const Place *place = &call->to;
    bool of_folder = call->arguments[2] & AT_REMOVEDIR;
    if (status_at(place, &about) || S_ISDIR(about.st_mode) != of_folder) return execute(call);
    if (of_folder && !is_empty(place)) return execute(call);
    Operation operation = {.kind = UNLINK, .to = hold_open(place->fd)};
    copy_name(operation.name, place->name);
    long result = 0;
    if (S_ISREG(about.st_mode)) {
        operation.gone = hold(&about, place->fd, place->name);
        result = execute(call);
    } else {
        operation.stashed = put_aside(place->fd, place->name);
    }
    if (result >= 0) log_operation(operation);
    return result;
}

static long rename_name(Call *call) {
    struct stat old, new;
    const Place *from = &call->from, *to = &call->to;
    Operation operation = {.kind = RENAME, .flags = (int)call->arguments[4] & RENAME_EXCHANGE};
    if (status_at(from, &old)) return execute(call);
    bool replaces = !status_at(to, &new) && !call->arguments[4];
    if (replaces && old.st_ino == new.st_ino && old.st_dev == new.st_dev) return execute(call); /* does nothing */
    operation.from = hold_open(from->fd);
    operation.to = hold_open(to->fd);
    copy_name(operation.old_name, from->name);
    copy_name(operation.name, to->name);
    if (replaces && S_ISREG(new.st_mode)) operation.gone = hold(&new, to->fd, to->name);
    else if (replaces && S_ISDIR(old.st_mode) == S_ISDIR(new.st_mode) && (S_ISLNK(new.st_mode) || is_empty(to)))
        operation.stashed = put_aside(to->fd, to->name);
    long result = execute(call);
    if (result >= 0) log_operation(operation);
    else if (operation.stashed) take_back(operation.stashed, to->fd, to->name);
    return result;
}

/* A folder's operations are on disk, and what of other folders comes before them. */
static void sync_names(Inode *of) {
    of->cut = true;
    for (Operation *operation = last_operation; operation; operation = operation->previous) {
        if (operation->durable || !(operation->to->cut || (operation->from && operation->from->cut))) continue;
        operation->durable = true;
        operation->to->cut = true;
        if (operation->from) operation->from->cut = true;
    }
    for (Inode *inode = inodes; inode; inode = inode->next) inode->cut = false;
}

static void sync_one(Inode *inode) {
    inode->first = inode->last = NULL;
    sync_names(inode);
}

static void synchronize(const Call *call) {
    struct stat about;
    bool all = call->number == SYS_sync || call->number == SYS_syncfs;
    if (call->number == SYS_sync_file_range) return; /* "extremely dangerous", its manual says: promises nothing */
    for (Inode *inode = inodes; all && inode; inode = inode->next) sync_one(inode);
    if (all || call->fd < 0 || status(call->fd, &about)) return;
    Inode *inode = known(&about);
    if (inode) sync_one(inode);
}

/* Nothing here needs the disk itself: what a process wrote stays when it is killed. */
static long perform(Call *call) {
    if (call->kind == SYNC) {
        if (mode == POWER) synchronize(call);
        return 0;
    }
    if (mode != POWER) return execute(call);
    switch (call->kind) {
    case OPEN: return open_file(call);
    case CREATE:
    case LINK: return create_name(call);
    case UNLINK: return remove_name(call);
    case RENAME: return rename_name(call);
    default: return change_bytes(call);
    }
}

/* --- The power fails --------------------------------------------------------------------------------------------- */

static int open_for_undoing(const Inode *inode) {
    struct stat about;
    char link[64];
    descriptor_path(link, inode->fd);
    int fd = (int)CALL(SYS_openat, AT_FDCWD, link, O_RDWR | O_CLOEXEC);
    if (fd >= 0) return fd;
    must(status(inode->fd, &about), "fstat"); /* one that may only be read */
    CALL(SYS_fchmod, inode->fd, 0600);
    fd = (int)must(CALL(SYS_openat, AT_FDCWD, link, O_RDWR | O_CLOEXEC), "a changed file cannot be written");
    CALL(SYS_fchmod, inode->fd, about.st_mode & 07777);
    return fd;
}

/* Bring one write to disk: all of it, or what is before or behind a border between sectors. */
static void bring(int fd, const Event *event, bool torn) {
    off_t start = event->start, end = start + event->new_length;
    off_t borders = (end - start - 1) / SECTOR;
    if (torn && borders > 0) {
        off_t border = start + SECTOR * (1 + (off_t)chance((uint64_t)borders));
        *(chance(2) ? &start : &end) = border;
    }
    if (event->new_size < event->old_size && event->new_size < size_of(fd)) {
        must(CALL(SYS_ftruncate, fd, event->new_size), "ftruncate");
    }
    if (start < end) write_range(fd, start, event->new + (start - event->start), end - start);
    if (!torn && size_of(fd) < event->new_size && event->new_size > event->old_size) {
        must(CALL(SYS_ftruncate, fd, event->new_size), "ftruncate");
    }
}

static void lose_bytes(const Inode *inode, unsigned style) {
    if (!inode->first) return;
    int fd = open_for_undoing(inode);
    for (Event *event = inode->last; event; event = event->previous) {
        off_t end = event->end < event->new_size ? event->end : event->new_size;
        event->new_length = read_range(fd, event->start, end, &event->new);
        if (event->new_size > event->old_size) must(CALL(SYS_ftruncate, fd, event->old_size), "ftruncate");
        write_range(fd, event->start, event->old, event->old_length);
    }
    off_t uncut = LLONG_MAX; /* a shortening was lost: nothing can have been written beyond it */
    for (Event *event = inode->first; event; event = event->next) {
        unsigned fate = style < 2 ? style : (unsigned)chance(3);
        bool shortens = event->new_size < event->old_size, lost = !fate || event->start + event->new_length > uncut;
        if (!lost) bring(fd, event, fate == 2 && !shortens);
        if (lost && shortens && event->new_size < uncut) uncut = event->new_size;
        /* The size is there without the bytes: they are zero. */
        if (lost && uncut == LLONG_MAX && event->new_size > size_of(fd) && !chance(4)) {
            must(CALL(SYS_ftruncate, fd, event->new_size), "ftruncate");
        }
    }
}

/* Name a file again. One that has no name left cannot get another: a copy takes its place. */
static void revive(Inode *inode, int base, const char *name) {
    struct stat about;
    char link[64];
    must(status(inode->fd, &about), "fstat");
    if (about.st_nlink) {
        descriptor_path(link, inode->fd);
        must(CALL(SYS_linkat, AT_FDCWD, link, base, name, AT_SYMLINK_FOLLOW), "link");
        return;
    }
    int fd = (int)must(CALL(SYS_openat, base, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600), name);
    char *bytes = NULL;
    off_t length = read_range(inode->fd, 0, about.st_size, &bytes);
    write_range(fd, 0, bytes, length);
    struct timespec times[2] = {about.st_atim, about.st_mtim};
    CALL(SYS_utimensat, fd, NULL, times);
    CALL(SYS_fchmod, fd, about.st_mode & 07777);
    inode->fd = fd;
}

static void undo(const Operation *operation) {
    int to = operation->to->fd;
    if (operation->kind == CREATE) {
        if (CALL(SYS_unlinkat, to, operation->name, 0) < 0) put_aside(to, operation->name); /* a folder */
    }
    if (operation->kind == RENAME) {
        int from = operation->from->fd;
        long done = CALL(SYS_renameat2, to, operation->name, from, operation->old_name, operation->flags);
        must(done, "rename back");
    }
    if (operation->gone) revive(operation->gone, to, operation->name);
    if (operation->stashed) take_back(operation->stashed, to, operation->name);
}

static bool loses(Inode *inode) {
    if (!inode || inode->left-- > 0) return false;
    return inode->cut = true;
}

static void lose_names(void) {
    for (Operation *operation = first_operation; operation; operation = operation->next) {
        if (operation->durable) continue;
        operation->to->left++;
        if (operation->from && operation->from != operation->to) operation->from->left++;
    }
    for (Inode *inode = inodes; inode; inode = inode->next) {
        inode->left = (long)chance((uint64_t)inode->left + 1);
    }
    for (Operation *operation = first_operation; operation; operation = operation->next) {
        if (operation->durable) continue;
        Inode *from = operation->from == operation->to ? NULL : operation->from;
        operation->lost = operation->to->cut || (from && from->cut);
        if (loses(operation->to)) operation->lost = true;
        if (loses(from)) operation->lost = true;
        if (operation->lost) operation->to->cut = true;
        if (operation->lost && from) from->cut = true;
    }
    for (Operation *operation = last_operation; operation; operation = operation->previous) {
        if (operation->lost) undo(operation);
    }
}

static void lose_power(void) {
    unsigned style = (unsigned)chance(4); /* nothing came to disk, everything did, or some */
    for (Inode *inode = inodes; inode; inode = inode->next) lose_bytes(inode, style);
    lose_names();
    die();
}

/* --- Faults ------------------------------------------------------------------------------------------------------ */

static void shorten(Call *call) {
    long *a = call->arguments;
    off_t left = call->length /= 2;
    switch (call->number) {
    case SYS_write:
    case SYS_pwrite64: a[2] = left; break;
    case SYS_sendfile: a[3] = left; break;
    case SYS_copy_file_range: a[4] = left; break;
    default: {
        const struct iovec *vector = (struct iovec *)a[1];
        long count = 0;
        for (; left > 0 && count < VECTORS; count++) {
            half[count] = vector[count];
            if ((off_t)half[count].iov_len > left) half[count].iov_len = (size_t)left;
            left -= (off_t)half[count].iov_len;
        }
        a[1] = (long)half;
        a[2] = count;
    }
    }
}

static const char *inside(const char *path) {
    return below(path) ? path + folder_length + 1 : strcmp(path, folder) ? path : ".";
}

static void note(const Call *call) {
    char *start = shared->trace + shared->used, *end = shared->trace + TRACE - 1;
    char *to = append(start, end, call->title);
    if (call->path[0]) to = append(append(to, end, " "), end, inside(call->path));
    if (call->kind == RENAME) to = append(append(to, end, " -> "), end, inside(call->to.path));
    shared->used = append(to, end, "\n") - shared->trace;
}

/* 0, or what the call fails with. */
static int refusal(const Call *call) {
    bool due = seed & STICKY ? shared->calls >= trigger : shared->calls == trigger;
    if (!trigger || !due) return 0;
    if (mode == BROKEN) return EIO;
    return mode == NO_SPACE && call->allocates ? ENOSPC : 0;
}

static long counted(Call *call) {
    shared->calls++;
    note(call);
    bool here = trigger && shared->calls == trigger;
    bool can_be_short = call->kind == WRITE && call->length > 1;
    if (here && mode == KILL_BEFORE) die();
    if (here && mode == POWER) {
        if (call->kind != SYNC && chance(2)) perform(call);
        lose_power();
    }
    bool shortened = mode == SHORT || (mode == NO_SPACE && seed & SHORT_FIRST);
    if (here && shortened && can_be_short) shorten(call);
    else if (refusal(call)) return -refusal(call);
    long result = perform(call);
    if (here && mode == KILL_AFTER) die();
    return result;
}

static void release(const Call *call) {
    if (call->owned) CALL(SYS_close, call->fd); /* by path alone, so no lock is lost */
    if (call->from.fd >= 0) CALL(SYS_close, call->from.fd);
    if (call->to.fd >= 0) CALL(SYS_close, call->to.fd);
}

static long handle(long number, const long *arguments) {
    Call call;
    call.owned = call.synchronous = call.allocates = false;
    call.fd = call.from.fd = call.to.fd = -1;
    call.path[0] = 0;
    normalize(&call, number, arguments);
    if (!armed) return execute(&call);
    lock();
    bool counts = watched(&call);
    long result = counts ? counted(&call) : 0;
    release(&call);
    unlock();
    return counts ? result : execute(&call); /* outside of the lock, as a pipe may block */
}

static void on_trap(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)number;
    if (info->si_code != SYS_SECCOMP) return;
    const long arguments[6] = {registers[REG_RDI], registers[REG_RSI], registers[REG_RDX],
                               registers[REG_R10], registers[REG_R8],  registers[REG_R9]};
    registers[REG_RAX] = handle(info->si_syscall, arguments);
}

/* --- Arming ------------------------------------------------------------------------------------------------------ */

static const int caught[] = {
    SYS_write,       SYS_pwrite64,    SYS_writev,    SYS_pwritev,  SYS_pwritev2, SYS_ftruncate,       SYS_truncate,
    SYS_fallocate,   SYS_creat,       SYS_openat2,   SYS_rename,   SYS_renameat, SYS_renameat2,       SYS_link,
    SYS_linkat,      SYS_symlink,     SYS_symlinkat, SYS_unlink,   SYS_unlinkat, SYS_mkdir,           SYS_mkdirat,
    SYS_mknod,       SYS_mknodat,     SYS_rmdir,     SYS_fsync,    SYS_fdatasync, SYS_sync_file_range, SYS_sync,
    SYS_syncfs,      SYS_msync,       SYS_sendfile,  SYS_copy_file_range,
};
enum { CAUGHT = sizeof caught / sizeof *caught };

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)(offsetof(struct seccomp_data, field)))
#define UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)(value), 0, skip)
#define WHEN(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)(value), skip, 0)
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, what)

/* Trap the calls above, and opens that may change something, but not the handler's own. */
static long install(void) {
    struct sock_filter filter[CAUGHT + 20];
    unsigned short n = 0;
    filter[n++] = (struct sock_filter)LOAD(arch);
    filter[n++] = (struct sock_filter)WHEN(AUDIT_ARCH_X86_64, 1);
    filter[n++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
    filter[n++] = (struct sock_filter)LOAD(nr);
    filter[n++] = (struct sock_filter)WHEN(SYS_open, CAUGHT + 2);
    filter[n++] = (struct sock_filter)WHEN(SYS_openat, CAUGHT + 3);
    for (int i = 0; i < CAUGHT; i++) filter[n++] = (struct sock_filter)WHEN(caught[i], (uint8_t)(CAUGHT - i + 5));
    filter[n++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
    filter[n++] = (struct sock_filter)LOAD(args[1]); /* the flags of open */
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 1);
    filter[n++] = (struct sock_filter)LOAD(args[2]); /* those of openat */
    const unsigned changing = O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY);
    filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, changing, 1, 0);
    filter[n++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
    filter[n++] = (struct sock_filter)LOAD(args[5]); /* the lower half */
    filter[n++] = (struct sock_filter)UNLESS(MAGIC & 0xffffffff, 3);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5]) + 4);
    filter[n++] = (struct sock_filter)UNLESS(MAGIC >> 32, 1);
    filter[n++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
    filter[n++] = (struct sock_filter)RETURN(SECCOMP_RET_TRAP);
    struct sock_fprog program = {n, filter};
    long done = CALL(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1);
    return done ? done : CALL(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}

__attribute__((constructor)) static void prepare(void) {
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigfillset(&action.sa_mask);
    sigaction(SIGSYS, &action, NULL);
    void *pages = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shared = pages == MAP_FAILED ? NULL : pages;
}

/* How many calls were counted since arming; in the process that forked the armed one, too. */
EXPORT long faults_count(void) { return shared->calls; }

/* A line for each of them, as "rename a -> b", below the folder. */
EXPORT const char *faults_trace(void) { return shared->trace; }

EXPORT void faults_reset(void) {
    shared->calls = shared->used = 0;
    shared->trace[0] = 0;
}

EXPORT void faults_disarm(void) { armed = 0; }

/* Count the calls that change what is below `path`, and at number `at`, from 1, do what `what` says. Once a process. */
EXPORT int faults_arm(const char *path, long at, int what, unsigned with_seed) {
    static bool installed;
    if (!shared) return -ENOMEM;
    int fd = (int)CALL(SYS_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fd;
    path_of(fd, folder);
    CALL(SYS_close, fd);
    folder_length = strlen(folder);
    trigger = at;
    mode = what;
    random_state = seed = with_seed;
    faults_reset();
    struct rlimit files; /* every changed file is held open */
    if (!getrlimit(RLIMIT_NOFILE, &files)) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (!installed) {
        long failed = install();
        if (failed) return failed > 0 ? -ESRCH : (int)failed;
        installed = true;
    }
    armed = 1;
    return 0;
}

/* The power fails now. */
EXPORT void faults_power(void) {
    lock();
    lose_power();
}
