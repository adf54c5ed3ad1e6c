/* A layer between a program and libc that writes down what the program does to one folder.

   Preloaded (LD_PRELOAD) with POWER_ROOT, the folder, and POWER_LOG, the recording. Every call that
   changes a file below the folder, its name, or makes either durable is appended to the recording
   in the order in which it took effect: one lock is held across the real call and its record. No
   sync reaches the disk: what would be durable is the model's to know, and recording is fast.

   A record is "op, length of path, length of second path, a, b, length of data" and then those
   three, see recorder.py. What the layer can't describe is recorded as ODD, and no recording with
   one of those is believed. SQLite's -shm files are left out: they are rebuilt after a crash. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, TRUNCATE, SYNC, SYNC_FAILED, RENAME, UNLINK, LINK, MKDIR, RMDIR, MARK, ODD };

struct record { uint8_t op; uint16_t path, second; int64_t a, b; uint32_t data; } __attribute__((packed));

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_length;
static int recording = -1;
static char failing[256];      /* syncs of paths that end so fail; empty: none */
static char stop_after[256];   /* the process ends before its next sync once such a path is named */
static int stopping = 0;

static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork(void) { pthread_mutex_unlock(&lock); }

/* The raw call: write(2) is one of ours. */
static void put(const void *bytes, size_t count) {
    const char *at = bytes;
    while (count > 0) {
        long done = syscall(SYS_write, recording, at, count);
        if (done <= 0) abort();
        at += done;
        count -= (size_t)done;
    }
}

static int ends_with(const char *text, const char *end) {
    size_t whole = strlen(text), part = strlen(end);
    return part <= whole && strcmp(text + whole - part, end) == 0;
}

static void tell(int op, const char *path, const char *second, int64_t a, int64_t b,
                 const void *data, size_t length) {
    int kept = errno;
    struct record head = {(uint8_t)op, (uint16_t)strlen(path), (uint16_t)strlen(second), a, b, (uint32_t)length};
    put(&head, sizeof head);
    put(path, head.path);
    put(second, head.second);
    put(data, length);
    if (stop_after[0] != '\0' && op != SYNC && (ends_with(path, stop_after) || ends_with(second, stop_after)))
        stopping = 1;
    errno = kept;
}

static int is_ours(const char *path) {
    return recording >= 0 && strncmp(path, root, root_length) == 0 &&
           (path[root_length] == '/' || path[root_length] == '\0') && !ends_with(path, "-shm");
}

/* The path below a directory descriptor, made absolute; 0 where it's none of ours. */
static int locate(int dirfd, const char *path, char *whole) {
    if (recording < 0 || path == NULL) return 0;
    if (path[0] == '/') {
        if (strlen(path) >= PATH_MAX) return 0;
        strcpy(whole, path);
    } else {
        char link[64], folder[PATH_MAX];
        if (dirfd == AT_FDCWD) strcpy(link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
        ssize_t length = readlink(link, folder, sizeof folder - 1);
        if (length < 0) return 0;
        folder[length] = '\0';
        if ((size_t)length + strlen(path) + 2 > PATH_MAX) return 0;
        strcpy(whole, folder);
        if (strcmp(path, ".") != 0 && path[0] != '\0') { strcat(whole, "/"); strcat(whole, path); }
    }
    size_t length = strlen(whole);
    while (length > 1 && whole[length - 1] == '/') whole[--length] = '\0';
    if (!is_ours(whole)) return 0;
    if (strstr(whole, "/../") || strstr(whole, "/./") || strstr(whole, "//"))
        tell(ODD, whole, "", 0, 0, "path", 4);
    return 1;
}

static int locate_fd(int fd, char *whole, struct stat *found) {
    if (recording < 0 || fd < 0 || fd == recording) return 0;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, whole, PATH_MAX - 1);
    if (length <= 0) return 0;
    whole[length] = '\0';
    if (whole[0] != '/' || !is_ours(whole) || ends_with(whole, "-shm (deleted)")) return 0;
    return fstat(fd, found) == 0 && (S_ISREG(found->st_mode) || S_ISDIR(found->st_mode));
}

#define REAL(name, type, ...) \
    static type (*real)(__VA_ARGS__); \
    if (real == NULL) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("POWER_ROOT"), *log = getenv("POWER_LOG");
    if (folder == NULL || log == NULL || strlen(folder) >= PATH_MAX) return;
    strcpy(root, folder);
    root_length = strlen(root);
    const char *stop = getenv("POWER_STOP_AFTER");
    if (stop != NULL) snprintf(stop_after, sizeof stop_after, "%s", stop);
    recording = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    pthread_atfork(before_fork, after_fork, after_fork);
}

/* For the program itself. */

void power_mark(const char *text, size_t length) {
    if (recording < 0) return;
    pthread_mutex_lock(&lock);
    tell(MARK, "", "", 0, 0, text, length);
    pthread_mutex_unlock(&lock);
}

void power_fail(const char *end) {
    pthread_mutex_lock(&lock);
    snprintf(failing, sizeof failing, "%s", end);
    pthread_mutex_unlock(&lock);
}

/* Opening. */

static int opened(int (*real)(int, const char *, int, ...), int dirfd, const char *path, int flags, mode_t mode) {
    char whole[PATH_MAX];
    if (!(flags & (O_CREAT | O_TRUNC))) return real(dirfd, path, flags, mode);
    pthread_mutex_lock(&lock);
    int ours = locate(dirfd, path, whole);
    struct stat found;
    int was_there = ours && fstatat(dirfd, path, &found, AT_SYMLINK_NOFOLLOW) == 0;
    int64_t size = was_there ? found.st_size : 0;
    int fd = real(dirfd, path, flags, mode);
    if (ours && fd >= 0 && fstat(fd, &found) == 0) {
        if (S_ISREG(found.st_mode) && !was_there) tell(CREATE, whole, "", (int64_t)found.st_ino, 0, "", 0);
        else if (S_ISREG(found.st_mode) && (flags & O_TRUNC) && size)
            tell(TRUNCATE, whole, "", (int64_t)found.st_ino, 0, "", 0);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

static int open_any(int dirfd, const char *path, int flags, mode_t mode) {
    REAL(openat64, int, int, const char *, int, ...);
    return opened(real, dirfd, path, flags, mode);
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }

int open(const char *path, int flags, ...) { MODE(flags) return open_any(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_any(AT_FDCWD, path, flags, mode); }
int openat(int fd, const char *path, int flags, ...) { MODE(flags) return open_any(fd, path, flags, mode); }
int openat64(int fd, const char *path, int flags, ...) { MODE(flags) return open_any(fd, path, flags, mode); }
int __open_2(const char *path, int flags) { return open_any(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_any(AT_FDCWD, path, flags, 0); }
int __openat_2(int fd, const char *path, int flags) { return open_any(fd, path, flags, 0); }
int __openat64_2(int fd, const char *path, int flags) { return open_any(fd, path, flags, 0); }
int creat(const char *path, mode_t mode) { return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

/* Writing. */

static void wrote(int fd, const struct iovec *parts, int count, ssize_t done, int64_t offset) {
    char whole[PATH_MAX];
    struct stat found;
    if (done <= 0 || !locate_fd(fd, whole, &found) || !S_ISREG(found.st_mode)) return;
    if (offset < 0) offset = lseek(fd, 0, SEEK_CUR) - done;
    size_t left = (size_t)done;
    for (int n = 0; n < count && left > 0; n++) {
        size_t part = parts[n].iov_len < left ? parts[n].iov_len : left;
        tell(WRITE, whole, "", (int64_t)found.st_ino, offset, parts[n].iov_base, part);
        offset += (int64_t)part;
        left -= part;
    }
}

ssize_t write(int fd, const void *data, size_t length) {
    REAL(write, ssize_t, int, const void *, size_t);
    char whole[PATH_MAX];
    struct stat found;
    if (!locate_fd(fd, whole, &found)) return real(fd, data, length);
    pthread_mutex_lock(&lock);
    ssize_t done = real(fd, data, length);
    struct iovec part = {(void *)data, length};
    wrote(fd, &part, 1, done, -1);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev, ssize_t, int, const struct iovec *, int);
    char whole[PATH_MAX];
    struct stat found;
    if (!locate_fd(fd, whole, &found)) return real(fd, parts, count);
    pthread_mutex_lock(&lock);
    ssize_t done = real(fd, parts, count);
    wrote(fd, parts, count, done, -1);
    pthread_mutex_unlock(&lock);
    return done;
}

#define PWRITE(name) \
    ssize_t name(int fd, const void *data, size_t length, off64_t offset) { \
        REAL(name, ssize_t, int, const void *, size_t, off64_t); \
        pthread_mutex_lock(&lock); \
        ssize_t done = real(fd, data, length, offset); \
        struct iovec part = {(void *)data, length}; \
        wrote(fd, &part, 1, done, offset); \
        pthread_mutex_unlock(&lock); \
        return done; \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define PWRITEV(name) \
    ssize_t name(int fd, const struct iovec *parts, int count, off64_t offset) { \
        REAL(name, ssize_t, int, const struct iovec *, int, off64_t); \
        pthread_mutex_lock(&lock); \
        ssize_t done = real(fd, parts, count, offset); \
        wrote(fd, parts, count, done, offset); \
        pthread_mutex_unlock(&lock); \
        return done; \
    }
PWRITEV(pwritev)
PWRITEV(pwritev64)

#define FTRUNCATE(name) \
    int name(int fd, off64_t size) { \
        REAL(name, int, int, off64_t); \
        char whole[PATH_MAX]; \
        struct stat found; \
        pthread_mutex_lock(&lock); \
        int failed = real(fd, size); \
        if (!failed && locate_fd(fd, whole, &found)) tell(TRUNCATE, whole, "", (int64_t)found.st_ino, size, "", 0); \
        pthread_mutex_unlock(&lock); \
        return failed; \
    }
FTRUNCATE(ftruncate)
FTRUNCATE(ftruncate64)

/* Syncing. */

static int synced(int fd) {
    char whole[PATH_MAX];
    struct stat found;
    int failed = 0;
    if (recording < 0) return 0;
    pthread_mutex_lock(&lock);
    if (locate_fd(fd, whole, &found)) {
        if (stopping) _exit(77);
        failed = failing[0] != '\0' && ends_with(whole, failing);
        tell(failed ? SYNC_FAILED : SYNC, whole, "", (int64_t)found.st_ino, S_ISDIR(found.st_mode), "", 0);
    }
    pthread_mutex_unlock(&lock);
    if (failed) errno = EIO;
    return failed ? -1 : 0;
}

int fsync(int fd) { return synced(fd); }
int fdatasync(int fd) { return synced(fd); }

/* Names. */

static int two_names(int op, int failed, int ours_a, const char *a, int ours_b, const char *b) {
    if (failed || (!ours_a && !ours_b)) return failed;
    if (ours_a && ours_b) tell(op, a, b, 0, 0, "", 0);
    else tell(ODD, ours_a ? a : b, "", 0, 0, "across", 6);
    return failed;
}

#define TWO(op, name, declared, passed, dir_a, path_a, dir_b, path_b, ...) \
    int name declared { \
        REAL(name, int, __VA_ARGS__); \
        char a[PATH_MAX], b[PATH_MAX]; \
        pthread_mutex_lock(&lock); \
        int ours_a = locate(dir_a, path_a, a), ours_b = locate(dir_b, path_b, b); \
        int failed = two_names(op, real passed, ours_a, a, ours_b, b); \
        pthread_mutex_unlock(&lock); \
        return failed; \
    }
TWO(RENAME, rename, (const char *x, const char *y), (x, y), AT_FDCWD, x, AT_FDCWD, y, const char *, const char *)
TWO(RENAME, renameat, (int i, const char *x, int j, const char *y), (i, x, j, y), i, x, j, y, int, const char *, int, const char *)
TWO(LINK, link, (const char *x, const char *y), (x, y), AT_FDCWD, x, AT_FDCWD, y, const char *, const char *)
TWO(LINK, linkat, (int i, const char *x, int j, const char *y, int f), (i, x, j, y, f), i, x, j, y, int, const char *, int, const char *, int)

int renameat2(int i, const char *x, int j, const char *y, unsigned flags) {
    REAL(renameat2, int, int, const char *, int, const char *, unsigned);
    char a[PATH_MAX], b[PATH_MAX];
    pthread_mutex_lock(&lock);
    int ours_a = locate(i, x, a), ours_b = locate(j, y, b);
    int failed = two_names(flags ? ODD : RENAME, real(i, x, j, y, flags), ours_a, a, ours_b, b);
    pthread_mutex_unlock(&lock);
    return failed;
}

#define ONE(op, name, declared, passed, dir, path, ...) \
    int name declared { \
        REAL(name, int, __VA_ARGS__); \
        char whole[PATH_MAX]; \
        struct stat found; \
        pthread_mutex_lock(&lock); \
        int ours = locate(dir, path, whole); \
        int failed = real passed; \
        if (ours && !failed) { \
            int64_t inode = (op) == MKDIR && stat(whole, &found) == 0 ? (int64_t)found.st_ino : 0; \
            tell(op, whole, "", inode, 0, "", 0); \
        } \
        pthread_mutex_unlock(&lock); \
        return failed; \
    }
ONE(UNLINK, unlink, (const char *x), (x), AT_FDCWD, x, const char *)
ONE(((f) & AT_REMOVEDIR ? RMDIR : UNLINK), unlinkat, (int i, const char *x, int f), (i, x, f), i, x, int, const char *, int)
ONE(UNLINK, remove, (const char *x), (x), AT_FDCWD, x, const char *)
ONE(RMDIR, rmdir, (const char *x), (x), AT_FDCWD, x, const char *)
ONE(MKDIR, mkdir, (const char *x, mode_t m), (x, m), AT_FDCWD, x, const char *, mode_t)
ONE(MKDIR, mkdirat, (int i, const char *x, mode_t m), (i, x, m), i, x, int, const char *, mode_t)
ONE(ODD, symlink, (const char *x, const char *y), (x, y), AT_FDCWD, y, const char *, const char *)
ONE(ODD, symlinkat, (const char *x, int i, const char *y), (x, i, y), i, y, const char *, int, const char *)

/* Ways to change a file that nothing of ours takes, and that would go unseen. */

static void odd(int fd, const char *what) {
    char whole[PATH_MAX];
    struct stat found;
    if (!locate_fd(fd, whole, &found)) return;
    pthread_mutex_lock(&lock);
    tell(ODD, whole, "", 0, 0, what, strlen(what));
    pthread_mutex_unlock(&lock);
}

#define MMAP(name) \
    void *name(void *at, size_t length, int protection, int flags, int fd, off64_t offset) { \
        REAL(name, void *, void *, size_t, int, int, int, off64_t); \
        if (fd >= 0 && (flags & MAP_SHARED) && (protection & PROT_WRITE)) odd(fd, "mmap"); \
        return real(at, length, protection, flags, fd, offset); \
    }
MMAP(mmap)
MMAP(mmap64)

#define ODD_ONE(name, what, fd, declared, passed, result, ...) \
    result name declared { \
        REAL(name, result, __VA_ARGS__); \
        odd(fd, what); \
        return real passed; \
    }
ODD_ONE(fallocate, "fallocate", fd, (int fd, int m, off64_t o, off64_t n), (fd, m, o, n), int, int, int, off64_t, off64_t)
ODD_ONE(fallocate64, "fallocate", fd, (int fd, int m, off64_t o, off64_t n), (fd, m, o, n), int, int, int, off64_t, off64_t)
ODD_ONE(posix_fallocate, "fallocate", fd, (int fd, off64_t o, off64_t n), (fd, o, n), int, int, off64_t, off64_t)
ODD_ONE(posix_fallocate64, "fallocate", fd, (int fd, off64_t o, off64_t n), (fd, o, n), int, int, off64_t, off64_t)
ODD_ONE(sendfile, "sendfile", to, (int to, int from, off64_t *o, size_t n), (to, from, o, n), ssize_t, int, int, off64_t *, size_t)
ODD_ONE(sendfile64, "sendfile", to, (int to, int from, off64_t *o, size_t n), (to, from, o, n), ssize_t, int, int, off64_t *, size_t)
ODD_ONE(copy_file_range, "copy_file_range", to, (int from, off64_t *i, int to, off64_t *o, size_t n, unsigned f), (from, i, to, o, n, f), ssize_t, int, off64_t *, int, off64_t *, size_t, unsigned)
ODD_ONE(syncfs, "syncfs", fd, (int fd), (fd), int, int)
