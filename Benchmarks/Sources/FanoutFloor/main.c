/* The floor of script/bench fanout: N sessions of the bare library, each of which reads one znode again when its watch fires.
 *
 * usage: FanoutFloor HOST:PORT ZNODE SESSIONS
 *
 * Prints "ready" when all have read. Then, for each line "publish BYTES" on standard input, sets the znode to so many bytes
 * and prints on one line, for each session, the microseconds from before the write to after its read. Ends with its input. */
/* The synchronous calls are declared for the threaded library only. */
#define THREADED
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zookeeper/zookeeper.h>

#define SESSIONS_MAX 5000
#define ROUND_SECONDS_MAX 60

struct session {
    zhandle_t *handle;
    int64_t read_at;
};

static struct session sessions[SESSIONS_MAX];
static int session_count;
static const char *znode;
/* What follows is under the lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int awaited_version;
static int arrived;

static int64_t microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void fail(const char *what) {
    fprintf(stderr, "FanoutFloor: %s\n", what);
    exit(1);
}

static void on_read(int rc, const char *value, int length, const struct Stat *stat, const void *data);

static void on_change(zhandle_t *handle, int type, int state, const char *path, void *context) {
    (void)path;
    if (type == ZOO_SESSION_EVENT) {
        if (state == ZOO_EXPIRED_SESSION_STATE) fail("a session expired");
        return;
    }
    if (zoo_awget(handle, znode, on_change, context, on_read, context) != ZOK) fail("a read was refused");
}

static void on_read(int rc, const char *value, int length, const struct Stat *stat, const void *data) {
    struct session *session = (struct session *)data;
    (void)value;
    (void)length;
    if (rc != ZOK) fail(zerror(rc));
    int64_t now = microseconds();
    pthread_mutex_lock(&lock);
    if (stat->version == awaited_version) {
        session->read_at = now;
        if (++arrived == session_count) pthread_cond_signal(&changed);
    }
    pthread_mutex_unlock(&lock);
}

static void wait_for_all(void) {
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += ROUND_SECONDS_MAX;
    pthread_mutex_lock(&lock);
    while (arrived < session_count)
        if (pthread_cond_timedwait(&changed, &lock, &deadline) != 0) fail("not every session has read in time");
    pthread_mutex_unlock(&lock);
}

int main(int count, char **arguments) {
    if (count != 4) {
        fprintf(stderr, "usage: FanoutFloor HOST:PORT ZNODE SESSIONS\n");
        return 2;
    }
    const char *server = arguments[1];
    znode = arguments[2];
    session_count = atoi(arguments[3]);
    if (session_count < 1 || session_count > SESSIONS_MAX) fail("SESSIONS: expected 1 to 5000");
    zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);

    zhandle_t *writer = zookeeper_init(server, NULL, 30000, NULL, NULL, 0);
    if (!writer) fail("no session");
    struct timespec pause = {0, 10000000};
    for (int tries = 0; zoo_state(writer) != ZOO_CONNECTED_STATE; tries++) {
        if (tries > 3000) fail("cannot connect");
        nanosleep(&pause, NULL);
    }
    struct Stat stat;
    int rc = zoo_create(writer, znode, "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    if (rc != ZOK && rc != ZNODEEXISTS) fail(zerror(rc));
    if (zoo_exists(writer, znode, 0, &stat) != ZOK) fail("cannot read the znode");
    awaited_version = stat.version;

    for (int index = 0; index < session_count; index++) {
        zhandle_t *handle = zookeeper_init(server, NULL, 30000, NULL, NULL, 0);
        if (!handle) fail("no session");
        sessions[index].handle = handle;
        for (int tries = 0; zoo_state(handle) != ZOO_CONNECTED_STATE; tries++) {
            if (tries > 30000) fail("cannot connect");
            struct timespec briefly = {0, 1000000};
            nanosleep(&briefly, NULL);
        }
        if (zoo_awget(handle, znode, on_change, &sessions[index], on_read, &sessions[index]) != ZOK)
            fail("a read was refused");
    }
    wait_for_all();
    printf("ready\n");
    fflush(stdout);

    char line[64];
    static char data[1 << 20];
    memset(data, 'x', sizeof data);
    while (fgets(line, sizeof line, stdin)) {
        int bytes = 0;
        if (sscanf(line, "publish %d", &bytes) != 1 || bytes < 1 || bytes > (int)sizeof data) fail("bad input");
        pthread_mutex_lock(&lock);
        arrived = 0;
        awaited_version++;
        pthread_mutex_unlock(&lock);
        int64_t start = microseconds();
        if ((rc = zoo_set(writer, znode, data, bytes, -1)) != ZOK) fail(zerror(rc));
        wait_for_all();
        for (int index = 0; index < session_count; index++)
            printf("%lld%c", (long long)(sessions[index].read_at - start), index + 1 == session_count ? '\n' : ' ');
        fflush(stdout);
    }
    for (int index = 0; index < session_count; index++) zookeeper_close(sessions[index].handle);
    zookeeper_close(writer);
    return 0;
}
