// What Swift cannot say to libzookeeper_mt by itself. Every function here is prefixed czk_ and carries its one reason.
//
// THREADED stays undefined (P21): the header then hides every blocking call, so that none can be used by mistake.
#ifndef CZOOKEEPER_SHIM_H
#define CZOOKEEPER_SHIM_H

#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <zookeeper/zookeeper.h>

// P26: zoo_client_id points into live memory that also holds the session's password; this copies the id alone.
static inline int64_t czk_session_id(zhandle_t *zh) {
    const clientid_t *id = zoo_client_id(zh);
    return id ? id->client_id : 0;
}

// P18: ZOO_OPEN_ACL_UNSAFE is a mutable global, which Swift 6 refuses to read; nobody writes it, its address is stable.
static inline struct ACL_vector *czk_open_acl_unsafe(void) {
    return &ZOO_OPEN_ACL_UNSAFE;
}

// errno is a macro over a function call; reading it here, in the same expression as the call, leaves no room for
// another call to overwrite it. The handle is NULL when *error is set.
static inline zhandle_t *czk_init(const char *hosts, watcher_fn watcher, int timeout_ms, void *context, int flags,
                                  log_callback_fn log, int *error) {
    errno = 0;
    zhandle_t *zh = zookeeper_init2(hosts, watcher, timeout_ms, NULL, context, flags, log);
    *error = zh ? 0 : (errno ? errno : EINVAL);
    return zh;
}

// Only a library built with OpenSSL exports zookeeper_init_ssl; the header declares it whatever the library has, so that
// a direct call would fail to link. RTLD_DEFAULT is NULL in glibc, and declared for _GNU_SOURCE alone.
static inline void *czk_ssl_entry_point(void) {
    return dlsym((void *)0, "zookeeper_init_ssl");
}

// As czk_init, over TLS. This entry point takes no log callback, so that the first lines go to the library's own stream.
static inline zhandle_t *czk_init_ssl(void *entry_point, const char *hosts, const char *certificates,
                                      watcher_fn watcher, int timeout_ms, void *context, int flags,
                                      log_callback_fn log, int *error) {
    typedef zhandle_t *(*init_ssl)(const char *, const char *, watcher_fn, int, const clientid_t *, void *, int);
    errno = 0;
    zhandle_t *zh = ((init_ssl)entry_point)(hosts, certificates, watcher, timeout_ms, NULL, context, flags);
    *error = zh ? 0 : (errno ? errno : EINVAL);
    if (zh) zoo_set_log_callback(zh, log);
    return zh;
}

// zoo_amulti frees an uninitialised pointer when the handle turns unrecoverable while it serialises the second or a
// later operation (it skips the operation's set-up but not its clean-up). A handle that is connected needs at least a
// whole reconnect to become so; checking in the line before leaves no realistic window.
static inline int czk_amulti(zhandle_t *zh, int count, const zoo_op_t *ops, zoo_op_result_t *results,
                             void_completion_t completion, const void *data) {
    if (zoo_state(zh) != ZOO_CONNECTED_STATE) return ZINVALIDSTATE;
    return zoo_amulti(zh, count, ops, results, completion, data);
}

#endif
