/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The TCTI contract, from outside: what a C program sees of the built library, both through the
 * loader (libtss2-tctildr) and opened directly, over a swtpm of its own. Plain C11, no support
 * library, so that it also shows that the public header is C.
 *
 * What always holds here: each test opens and closes its own contexts; all of them leave the TPM
 * without transient objects and sessions; only the loopback interface is used.
 */

/* These three come first, or cmocka.h does not compile. */
/* clang-format off */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */

#include <arpa/inet.h>
#include <dlfcn.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <tss2/tss2_tcti.h>
#include <tss2/tss2_tctildr.h>
#include <unistd.h>

#include "tss2/tss2_tcti_spaces.h"

#ifndef SPACES_LIBRARY
#error "SPACES_LIBRARY must be the path of the library under test"
#endif

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define assert_rc(expected, call) assert_int_equal((TSS2_RC)(call), (TSS2_RC)(expected))

enum { MAX_RESPONSE = 4096, CANARY_SIZE = 64, CANARY = 0xa5 };

/* ---- TPM commands -------------------------------------------------------------------------- */

typedef struct {
    size_t size;
    uint8_t bytes[32];
} Command;

#define COMMAND(...)                                      \
    {                                                     \
        sizeof((uint8_t[]){__VA_ARGS__}), { __VA_ARGS__ } \
    }

/* GetCapability(TPM_PROPERTIES, FAMILY_INDICATOR, 1): the same 27 bytes each time. */
static const Command FAMILY =
    COMMAND(0x80, 1, 0, 0, 0, 22, 0, 0, 1, 0x7a, 0, 0, 0, 6, 0, 0, 1, 0, 0, 0, 0, 1);
enum { FAMILY_RESPONSE_SIZE = 27 };
/* GetRandom(8) */
static const Command RANDOM = COMMAND(0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 8);
enum { RANDOM_RESPONSE_SIZE = 20 };
/* HashSequenceStart(SHA-256): leaves a transient object. */
static const Command HASH_SEQUENCE_START =
    COMMAND(0x80, 1, 0, 0, 0, 14, 0, 0, 1, 0x86, 0, 0, 0, 0x0b);
/* FlushContext(0x80000000) */
static const Command FLUSH_FIRST = COMMAND(0x80, 1, 0, 0, 0, 14, 0, 0, 1, 0x65, 0x80, 0, 0, 0);
/* PCR_Reset(20) with an empty password: localities 2 and 4 may. */
static const Command PCR_RESET_20 = COMMAND(0x80, 2, 0, 0, 0, 27, 0, 0, 1, 0x3d, 0, 0, 0, 20, 0, 0,
                                            0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0);
/* A command code that no TPM has. */
static const Command UNKNOWN = COMMAND(0x80, 1, 0, 0, 0, 10, 0, 0, 0x0f, 0x99);

enum { TPM_RC_COMMAND_CODE_ = 0x143, TPM_RC_LOCALITY_ = 0x907 };

typedef struct {
    size_t size;
    uint8_t bytes[MAX_RESPONSE];
} Response;

static uint32_t read_u32(const uint8_t* p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static TSS2_RC transmit(TSS2_TCTI_CONTEXT* tcti, const Command* command) {
    return Tss2_Tcti_Transmit(tcti, command->size, command->bytes);
}

static void receive(TSS2_TCTI_CONTEXT* tcti, Response* response) {
    response->size = sizeof response->bytes;
    assert_rc(TSS2_RC_SUCCESS,
              Tss2_Tcti_Receive(tcti, &response->size, response->bytes, TSS2_TCTI_TIMEOUT_BLOCK));
    assert_true(response->size >= 10 && response->size == read_u32(response->bytes + 2));
}

static Response exchange(TSS2_TCTI_CONTEXT* tcti, const Command* command) {
    Response response;
    assert_rc(TSS2_RC_SUCCESS, transmit(tcti, command));
    receive(tcti, &response);
    return response;
}

static uint32_t response_code(TSS2_TCTI_CONTEXT* tcti, const Command* command) {
    const Response response = exchange(tcti, command);
    return read_u32(response.bytes + 6);
}

static void assert_same_response(const Response* a, const Response* b) {
    assert_int_equal(a->size, b->size);
    assert_memory_equal(a->bytes, b->bytes, a->size);
}

/* A context takes commands: it is in the TRANSMIT state and its TPM answers. */
static void assert_usable(TSS2_TCTI_CONTEXT* tcti) {
    assert_int_equal(exchange(tcti, &RANDOM).size, RANDOM_RESPONSE_SIZE);
}

/* ---- the TPM: a swtpm that lives as long as this program ----------------------------------- */

static struct {
    char dir[64];
    char log[96]; /* where the library logs */
    pid_t pid;
    uint16_t port;
} env;

static const char* library(void) {
    const char* path = getenv("SPACES_LIBRARY");
    return path != NULL ? path : SPACES_LIBRARY;
}

static bool port_is_free(uint16_t port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool is_free = bind(fd, (struct sockaddr*)&address, sizeof address) == 0;
    close(fd);
    return is_free;
}

/* Two in a row, outside the range that the kernel hands out to outgoing connections. */
static uint16_t two_free_ports(void) {
    for (;;) {
        uint16_t random;
        assert_int_equal(getrandom(&random, sizeof random, 0), sizeof random);
        const uint16_t port = 10000 + random % 20000;
        if (port_is_free(port) && port_is_free(port + 1)) return port;
    }
}

static void exec_swtpm(pid_t parent) {
    char state[96], server[64], ctrl[64], pid[96];
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(1);
    snprintf(state, sizeof state, "dir=%s", env.dir);
    snprintf(server, sizeof server, "type=tcp,port=%u,bindaddr=127.0.0.1", env.port);
    snprintf(ctrl, sizeof ctrl, "type=tcp,port=%u,bindaddr=127.0.0.1", env.port + 1u);
    snprintf(pid, sizeof pid, "file=%s/pid", env.dir);
    execlp("swtpm", "swtpm", "socket", "--tpm2", "--tpmstate", state, "--server", server, "--ctrl",
           ctrl, "--flags", "not-need-init,startup-clear", "--pid", pid, (char*)NULL);
    perror("swtpm");
    _exit(127);
}

/* Waits for the pid file, which swtpm writes once its ports are open; false: it ended instead. */
static bool swtpm_is_ready(void) {
    char pid_file[96];
    struct stat status;
    snprintf(pid_file, sizeof pid_file, "%s/pid", env.dir);
    for (int i = 0; i < 3000; i++) {
        if (stat(pid_file, &status) == 0 && status.st_size > 0) return true;
        if (waitpid(env.pid, NULL, WNOHANG) == env.pid) return false;
        nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
    }
    return false;
}

static int start_tpm(void** state) {
    (void)state;
    for (int attempt = 0; attempt < 10; attempt++) {
        const pid_t parent = getpid();
        env.port = two_free_ports();
        env.pid = fork();
        if (env.pid == 0) exec_swtpm(parent);
        if (env.pid > 0 && swtpm_is_ready()) return 0;
    }
    fprintf(stderr, "swtpm does not start\n");
    return -1;
}

static int stop_tpm(void** state) {
    (void)state;
    kill(env.pid, SIGTERM);
    waitpid(env.pid, NULL, 0);
    return 0;
}

static void remove_dir(void) {
    static const char* const files[] = {"pid", "log", "tpm2-00.permall", "tpm2-00.volatilestate",
                                        ".lock"};
    char path[128];
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        snprintf(path, sizeof path, "%s/%s", env.dir, files[i]);
        unlink(path);
    }
    if (rmdir(env.dir) != 0) perror(env.dir);
}

/* ---- contexts ------------------------------------------------------------------------------ */

/* "OPTIONS" + the child's conf; the result is good until the next call. */
static const char* conf(const char* options) {
    static char text[256];
    snprintf(text, sizeof text, "%sswtpm:host=127.0.0.1,port=%u", options, env.port);
    return text;
}

static TSS2_TCTI_CONTEXT* open_loaded(void) {
    char name_conf[4096];
    TSS2_TCTI_CONTEXT* tcti = NULL;
    snprintf(name_conf, sizeof name_conf, "%s:%s", library(), conf(""));
    assert_rc(TSS2_RC_SUCCESS, Tss2_TctiLdr_Initialize(name_conf, &tcti));
    assert_non_null(tcti);
    return tcti;
}

/* A number from the lists of handles of the TPM itself, asked without the library. */
static uint32_t handles_in_tpm(uint8_t type) {
    const Command command =
        COMMAND(0x80, 1, 0, 0, 0, 22, 0, 0, 1, 0x7a, 0, 0, 0, 1, type, 0, 0, 0, 0, 0, 0, 16);
    TSS2_TCTI_CONTEXT* tcti = NULL;
    assert_rc(TSS2_RC_SUCCESS, Tss2_TctiLdr_Initialize(conf(""), &tcti));
    const Response response = exchange(tcti, &command);
    Tss2_TctiLdr_Finalize(&tcti);
    assert_int_equal(read_u32(response.bytes + 6), 0);
    return read_u32(response.bytes + 15);
}

static void assert_tpm_empty(void) {
    assert_int_equal(handles_in_tpm(0x80), 0);
    assert_int_equal(handles_in_tpm(0x02), 0);
    assert_int_equal(handles_in_tpm(0x03), 0);
}

/* The library opened without the loader, as a program that links with it would have it. */
typedef struct {
    void* handle;
    const TSS2_TCTI_INFO* info;
    __typeof__(Tss2_Tcti_Spaces_Init)* init;
} Direct;

static int open_library(void** state) {
    static Direct direct;
    TSS2_TCTI_INFO_FUNC get_info;
    direct.handle = dlopen(library(), RTLD_NOW | RTLD_LOCAL);
    if (direct.handle == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return -1;
    }
    *(void**)&get_info = dlsym(direct.handle, TSS2_TCTI_INFO_SYMBOL);
    *(void**)&direct.init = dlsym(direct.handle, "Tss2_Tcti_Spaces_Init");
    if (get_info == NULL || direct.init == NULL) return -1;
    direct.info = get_info();
    *state = &direct;
    return direct.info != NULL ? 0 : -1;
}

static int close_library(void** state) { return dlclose(((Direct*)*state)->handle); }

/* Memory for a context, zeroed, with bytes behind it that nobody may touch. */
static TSS2_TCTI_CONTEXT* new_block(const Direct* direct, size_t* size) {
    *size = 0xdeadbeef; /* the size need not be set on entry */
    assert_rc(TSS2_RC_SUCCESS, direct->init(NULL, size, NULL));
    assert_in_range(*size, sizeof(TSS2_TCTI_CONTEXT_COMMON_CURRENT), 65536);
    uint8_t* block = calloc(1, *size + CANARY_SIZE);
    assert_non_null(block);
    memset(block + *size, CANARY, CANARY_SIZE);
    return (TSS2_TCTI_CONTEXT*)block;
}

static void assert_canary_alive(const TSS2_TCTI_CONTEXT* tcti, size_t size) {
    const uint8_t* behind = (const uint8_t*)tcti + size;
    for (size_t i = 0; i < CANARY_SIZE; i++) assert_int_equal(behind[i], CANARY);
}

static TSS2_TCTI_CONTEXT* open_direct(const Direct* direct) {
    size_t size;
    TSS2_TCTI_CONTEXT* tcti = new_block(direct, &size);
    assert_rc(TSS2_RC_SUCCESS, direct->init(tcti, &size, conf("")));
    assert_canary_alive(tcti, size);
    return tcti;
}

static void close_direct(TSS2_TCTI_CONTEXT* tcti) {
    Tss2_Tcti_Finalize(tcti);
    free(tcti);
}

/* ---- Info ---------------------------------------------------------------------------------- */

static const char* const OPTIONS[] = {"swap", "objects", "sessions", "leftovers", "wait", "trace"};

static void info_describes_the_library(void** state) {
    const Direct* direct = *state;
    const TSS2_TCTI_INFO* info = direct->info;
    assert_int_equal(info->version, 2);
    assert_string_equal(info->name, "tcti-spaces");
    assert_non_null(info->description);
    assert_true(strlen(info->description) > 0);
    assert_non_null(info->config_help);
    for (size_t i = 0; i < ARRAY_LEN(OPTIONS); i++) {
        if (strstr(info->config_help, OPTIONS[i]) == NULL) fail_msg("no help for %s", OPTIONS[i]);
    }
    assert_ptr_equal(info->init, direct->init);
}

static void get_info_through_the_loader(void** state) {
    (void)state;
    TSS2_TCTI_INFO* info = NULL;
    assert_rc(TSS2_RC_SUCCESS, Tss2_TctiLdr_GetInfo(library(), &info));
    assert_int_equal(info->version, 2);
    assert_string_equal(info->name, "tcti-spaces");
    assert_non_null(info->description);
    assert_non_null(info->config_help);
    Tss2_TctiLdr_FreeInfo(&info);
}

/* ---- Init ---------------------------------------------------------------------------------- */

static void init_tells_its_size(void** state) {
    const Direct* direct = *state;
    size_t size = 0, again = 1;
    assert_rc(TSS2_RC_SUCCESS, direct->init(NULL, &size, NULL));
    assert_true(size >= sizeof(TSS2_TCTI_CONTEXT_COMMON_CURRENT));
    /* No look at the conf yet: the loader asks with whatever it was given. */
    assert_rc(TSS2_RC_SUCCESS, direct->init(NULL, &again, "colour=red"));
    assert_int_equal(size, again);
}

static void init_without_its_size_is_bad_value(void** state) {
    const Direct* direct = *state;
    size_t size;
    TSS2_TCTI_CONTEXT* tcti = new_block(direct, &size);
    assert_rc(TSS2_TCTI_RC_BAD_VALUE, direct->init(NULL, NULL, NULL));
    assert_rc(TSS2_TCTI_RC_BAD_VALUE, direct->init(NULL, NULL, conf("")));
    assert_rc(TSS2_TCTI_RC_BAD_VALUE, direct->init(tcti, NULL, conf("")));
    assert_int_equal(TSS2_TCTI_MAGIC(tcti), 0);
    size--;
    assert_rc(TSS2_TCTI_RC_BAD_VALUE, direct->init(tcti, &size, conf("")));
    assert_int_equal(TSS2_TCTI_MAGIC(tcti), 0);
    free(tcti);
}

static void init_fills_in_a_version_2_context(void** state) {
    TSS2_TCTI_CONTEXT* tcti = open_direct(*state);
    assert_int_equal(TSS2_TCTI_VERSION(tcti), 2);
    assert_true(TSS2_TCTI_MAGIC(tcti) != 0);
    assert_non_null(TSS2_TCTI_TRANSMIT(tcti));
    assert_non_null(TSS2_TCTI_RECEIVE(tcti));
    assert_non_null(TSS2_TCTI_FINALIZE(tcti));
    assert_non_null(TSS2_TCTI_CANCEL(tcti));
    assert_non_null(TSS2_TCTI_GET_POLL_HANDLES(tcti));
    assert_non_null(TSS2_TCTI_SET_LOCALITY(tcti));
    assert_non_null(TSS2_TCTI_MAKE_STICKY(tcti));
    close_direct(tcti);
}

static void init_copies_its_conf(void** state) {
    const Direct* direct = *state;
    size_t size;
    TSS2_TCTI_CONTEXT* tcti = new_block(direct, &size);
    char* text = strdup(conf(""));
    assert_rc(TSS2_RC_SUCCESS, direct->init(tcti, &size, text));
    memset(text, 'x', strlen(text));
    free(text);
    assert_usable(tcti);
    close_direct(tcti);
}

/* The caller of an Init that fails only frees the memory: nothing in it may ask for finalize. */
static void assert_init_fails(const Direct* direct, TSS2_RC expected, const char* text) {
    size_t size;
    TSS2_TCTI_CONTEXT* tcti = new_block(direct, &size);
    const TSS2_RC rc = direct->init(tcti, &size, text);
    if (rc == TSS2_RC_SUCCESS || (expected != TSS2_RC_SUCCESS && rc != expected)) {
        fail_msg("conf \"%s\": 0x%08" PRIx32 ", expected 0x%08" PRIx32, text, rc, expected);
    }
    assert_int_equal(TSS2_TCTI_MAGIC(tcti), 0);
    assert_int_equal(TSS2_TCTI_VERSION(tcti), 0);
    assert_true(TSS2_TCTI_FINALIZE(tcti) == NULL);
    assert_canary_alive(tcti, size);
    free(tcti);
}

static void init_fails_when_its_child_does(void** state) {
    enum { ANY_FAILURE = TSS2_RC_SUCCESS };
    char closed[64];
    snprintf(closed, sizeof closed, "swtpm:host=127.0.0.1,port=%u", two_free_ports());
    assert_init_fails(*state, ANY_FAILURE, closed);
    assert_init_fails(*state, ANY_FAILURE, "no-such-child-tcti:x");
    assert_init_fails(*state, ANY_FAILURE, "swtpm:no-such-key=1");
}

/* ---- conf ---------------------------------------------------------------------------------- */

static long log_size(void) {
    struct stat status;
    return stat(env.log, &status) == 0 ? (long)status.st_size : 0;
}

/* What the library logged since the log had `mark` bytes names what it did not like. */
static void assert_logged(long mark, const char* word, const char* text) {
    char buffer[8192] = "";
    FILE* log = fopen(env.log, "r");
    assert_non_null(log);
    assert_int_equal(fseek(log, mark, SEEK_SET), 0);
    buffer[fread(buffer, 1, sizeof buffer - 1, log)] = '\0';
    fclose(log);
    if (strncmp(buffer, "ERROR:tcti:", 11) != 0 || strstr(buffer, word) == NULL) {
        fail_msg("conf \"%s\": no ERROR line names \"%s\" in \"%s\"", text, word, buffer);
    }
}

static void conf_with_defaults_spelt_out(void** state) {
    static const char* const good[] = {"swap=off,", "leftovers=keep,", "wait=0,",
                                       "swap=off,leftovers=keep,wait=0,"};
    const Direct* direct = *state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        size_t size;
        TSS2_TCTI_CONTEXT* tcti = new_block(direct, &size);
        assert_rc(TSS2_RC_SUCCESS, direct->init(tcti, &size, conf(good[i])));
        assert_usable(tcti);
        close_direct(tcti);
    }
}

/* Before each child's conf: options that are wrong, and the word that the log must hold. */
static void conf_with_a_wrong_option(void** state) {
    static const struct {
        const char *options, *word;
    } wrong[] = {
        {"colour=red,", "colour"},
        {"swaps=off,", "swaps"},
        {"SWAP=off,", "SWAP"},
        {"=off,", "="},
        {"swap=maybe,", "maybe"},
        {"swap=,", "swap"},
        {"swap=off,colour=red,", "colour"},
        {"objects=,", "objects"},
        {"objects=many,", "many"},
        {"objects=-1,", "objects"},
        {"objects=3x,", "3x"},
        {"objects=99999999999999999999,", "objects"},
        {"sessions=,", "sessions"},
        {"sessions=few,", "few"},
        {"leftovers=,", "leftovers"},
        {"leftovers=burn,", "burn"},
        {"wait=,", "wait"},
        {"wait=soon,", "soon"},
        {"wait=-1,", "wait"},
        {"trace=,", "trace"},
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        const long mark = log_size();
        assert_init_fails(*state, TSS2_TCTI_RC_BAD_VALUE, conf(wrong[i].options));
        assert_logged(mark, wrong[i].word, wrong[i].options);
    }
}

/* What cannot be had is refused: to accept it in silence would be a lie. */
static void conf_asking_for_what_is_not_there(void** state) {
    static const struct {
        const char *options, *word;
    } later[] = {
#if !SPACES_SWAPPING
        {"swap=on,", "swap"},
#endif
        {"objects=3,", "objects"},
        {"sessions=3,", "sessions"},
        {"trace=/nonexistent/trace.json,", "trace"},
    };
    for (size_t i = 0; i < ARRAY_LEN(later); i++) {
        const long mark = log_size();
        assert_init_fails(*state, TSS2_TCTI_RC_BAD_VALUE, conf(later[i].options));
        assert_logged(mark, later[i].word, later[i].options);
    }
}

/* By every name under which the loader would find the library again. */
static void conf_with_spaces_as_its_own_child(void** state) {
    char by_path[4096];
    const char* const names[] = {"spaces",
                                 "spaces:",
                                 "spaces:swtpm",
                                 "swap=off,spaces:swtpm",
                                 "libtss2-tcti-spaces.so.0:swtpm",
                                 "libtss2-tcti-spaces.so:swtpm",
                                 by_path};
    snprintf(by_path, sizeof by_path, "%s:%s", library(), conf(""));
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const long mark = log_size();
        assert_init_fails(*state, TSS2_TCTI_RC_BAD_VALUE, names[i]);
        assert_logged(mark, "spaces", names[i]);
    }
}

/* An option behind the child's name is the child's; its conf may hold any of , = and : */
static void conf_of_the_child_is_its_own(void** state) {
    char text[512];
    assert_init_fails(*state, TSS2_RC_SUCCESS, "swtpm,swap=off");
    snprintf(text, sizeof text, "%s,swap=off", conf(""));
    assert_init_fails(*state, TSS2_RC_SUCCESS, text);
}

static void loader_hands_the_error_up(void** state) {
    (void)state;
    char name_conf[4096];
    TSS2_TCTI_CONTEXT* tcti = NULL;
    snprintf(name_conf, sizeof name_conf, "%s:%s", library(), conf("colour=red,"));
    /* What is in tcti then is the loader's: 4.x does not leave it alone. */
    assert_rc(TSS2_TCTI_RC_BAD_VALUE, Tss2_TctiLdr_Initialize(name_conf, &tcti));
}

/* ---- order of checks: pointers, magic, state, values --------------------------------------- */

static void null_context_is_bad_reference(void** state) {
    TSS2_TCTI_CONTEXT* tcti = open_direct(*state);
    uint8_t buffer[16];
    size_t size = sizeof buffer;
    TPM2_HANDLE handle = 0x80000000;
    assert_rc(TSS2_TCTI_RC_BAD_REFERENCE,
              TSS2_TCTI_TRANSMIT(tcti)(NULL, RANDOM.size, RANDOM.bytes));
    assert_rc(TSS2_TCTI_RC_BAD_REFERENCE, TSS2_TCTI_RECEIVE(tcti)(NULL, &size, buffer, -1));
    assert_rc(TSS2_TCTI_RC_BAD_REFERENCE, TSS2_TCTI_CANCEL(tcti)(NULL));
    assert_rc(TSS2_TCTI_RC_BAD_REFERENCE, TSS2_TCTI_GET_POLL_HANDLES(tcti)(NULL, NULL, &size));
    assert_rc(TSS2_TCTI_RC_BAD_REFERENCE, TSS2_TCTI_SET_LOCALITY(tcti)(NULL, 0));
    assert_rc(TSS2_TCTI_RC_BAD_REFERENCE, TSS2_TCTI_MAKE_STICKY(tcti)(NULL, &handle, 1));
    TSS2_TCTI_FINALIZE(tcti)(NULL);
    assert_usable(tcti);
    close_direct(tcti);
}

static void null_arguments_are_bad_reference(void** state) {
    TSS2_TCTI_CONTEXT* tcti = open_direct(*state);
    uint8_t buffer[MAX_RESPONSE];
    /* in TRANSMIT: pointers come before the state */
    assert_rc(TSS2_TCTI_RC_BAD_REFERENCE, Tss2_Tcti_Transmit(tcti, RANDOM.size, NULL));
    assert_rc(TSS2_TCTI_RC_BAD_REFERENCE, Tss2_Tcti_Transmit(tcti, 0, NULL));
    assert_rc(TSS2_TCTI_RC_BAD_REFERENCE, Tss2_Tcti_Receive(tcti, NULL, buffer, -1));
    assert_rc(TSS2_TCTI_RC_BAD_REFERENCE, Tss2_Tcti_GetPollHandles(tcti, NULL, NULL));
    /* in RECEIVE, and before the values */
    assert_rc(TSS2_RC_SUCCESS, transmit(tcti, &RANDOM));
    assert_rc(TSS2_TCTI_RC_BAD_REFERENCE, Tss2_Tcti_Transmit(tcti, RANDOM.size, NULL));
    assert_rc(TSS2_TCTI_RC_BAD_REFERENCE, Tss2_Tcti_Receive(tcti, NULL, buffer, -2));
    assert_rc(TSS2_TCTI_RC_BAD_REFERENCE, Tss2_Tcti_GetPollHandles(tcti, NULL, NULL));
    Response response;
    receive(tcti, &response);
    assert_int_equal(response.size, RANDOM_RESPONSE_SIZE);
    close_direct(tcti);
}

static void assert_magic_is_checked(TSS2_TCTI_CONTEXT* tcti) {
    uint8_t buffer[16];
    size_t size = sizeof buffer;
    TPM2_HANDLE handle = 0x80000000;
    TSS2_TCTI_MAGIC(tcti) ^= 1;
    assert_rc(TSS2_TCTI_RC_BAD_CONTEXT, transmit(tcti, &RANDOM));
    assert_rc(TSS2_TCTI_RC_BAD_CONTEXT, Tss2_Tcti_Receive(tcti, &size, buffer, -2));
    assert_rc(TSS2_TCTI_RC_BAD_CONTEXT, Tss2_Tcti_Cancel(tcti));
    assert_rc(TSS2_TCTI_RC_BAD_CONTEXT, Tss2_Tcti_GetPollHandles(tcti, NULL, &size));
    assert_rc(TSS2_TCTI_RC_BAD_CONTEXT, Tss2_Tcti_SetLocality(tcti, 0));
    assert_rc(TSS2_TCTI_RC_BAD_CONTEXT, Tss2_Tcti_MakeSticky(tcti, &handle, 1));
    /* pointers come before the magic */
    assert_rc(TSS2_TCTI_RC_BAD_REFERENCE, Tss2_Tcti_Transmit(tcti, RANDOM.size, NULL));
    assert_rc(TSS2_TCTI_RC_BAD_REFERENCE, Tss2_Tcti_Receive(tcti, NULL, buffer, -1));
    Tss2_Tcti_Finalize(tcti); /* not ours: left alone */
    TSS2_TCTI_MAGIC(tcti) ^= 1;
}

static void foreign_context_is_bad_context(void** state) {
    TSS2_TCTI_CONTEXT* tcti = open_direct(*state);
    Response response;
    assert_magic_is_checked(tcti);
    assert_usable(tcti);
    assert_rc(TSS2_RC_SUCCESS, transmit(tcti, &RANDOM));
    assert_magic_is_checked(tcti);
    receive(tcti, &response);
    assert_int_equal(response.size, RANDOM_RESPONSE_SIZE);
    close_direct(tcti);
}

static void transmit_state_refuses_receive_and_cancel(void** state) {
    TSS2_TCTI_CONTEXT* tcti = open_direct(*state);
    uint8_t buffer[MAX_RESPONSE];
    size_t size = sizeof buffer;
    for (int round = 0; round < 2; round++) { /* when new, and again behind a response */
        assert_rc(TSS2_TCTI_RC_BAD_SEQUENCE, Tss2_Tcti_Receive(tcti, &size, buffer, -1));
        assert_rc(TSS2_TCTI_RC_BAD_SEQUENCE, Tss2_Tcti_Receive(tcti, &size, NULL, 0));
        assert_rc(TSS2_TCTI_RC_BAD_SEQUENCE, Tss2_Tcti_Receive(tcti, &size, buffer, -2));
        assert_rc(TSS2_TCTI_RC_BAD_SEQUENCE, Tss2_Tcti_Cancel(tcti));
        assert_usable(tcti);
    }
    close_direct(tcti);
}

static void receive_state_refuses_transmit_and_locality(void** state) {
    TSS2_TCTI_CONTEXT* tcti = open_direct(*state);
    const Response expected = exchange(tcti, &FAMILY);
    Response response;
    assert_rc(TSS2_RC_SUCCESS, transmit(tcti, &FAMILY));
    assert_rc(TSS2_TCTI_RC_BAD_SEQUENCE, transmit(tcti, &RANDOM));
    assert_rc(TSS2_TCTI_RC_BAD_SEQUENCE, Tss2_Tcti_Transmit(tcti, 9, RANDOM.bytes));
    assert_rc(TSS2_TCTI_RC_BAD_SEQUENCE, Tss2_Tcti_SetLocality(tcti, 0));
    receive(tcti, &response);
    assert_same_response(&expected, &response);
    close_direct(tcti);
}

/* ---- transmit ------------------------------------------------------------------------------ */

static void transmit_with_a_wrong_size_is_bad_value(void** state) {
    TSS2_TCTI_CONTEXT* tcti = open_direct(*state);
    uint8_t longer[64] = {0};
    Command short_header = RANDOM;
    memcpy(longer, RANDOM.bytes, RANDOM.size);
    assert_rc(TSS2_TCTI_RC_BAD_VALUE, Tss2_Tcti_Transmit(tcti, RANDOM.size - 1, RANDOM.bytes));
    assert_rc(TSS2_TCTI_RC_BAD_VALUE, Tss2_Tcti_Transmit(tcti, RANDOM.size + 1, longer));
    for (size_t size = 0; size < 10; size++) {
        short_header.bytes[5] = (uint8_t)size;
        assert_rc(TSS2_TCTI_RC_BAD_VALUE, Tss2_Tcti_Transmit(tcti, size, short_header.bytes));
    }
    /* nothing was sent and the state is as it was */
    assert_usable(tcti);
    close_direct(tcti);
}

static void error_responses_are_ten_bytes(void** state) {
    static const uint8_t expected[] = {0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x43};
    TSS2_TCTI_CONTEXT* tcti = open_direct(*state);
    const Response response = exchange(tcti, &UNKNOWN);
    assert_int_equal(response.size, sizeof expected);
    assert_memory_equal(response.bytes, expected, sizeof expected);
    close_direct(tcti);
}

/* ---- receive ------------------------------------------------------------------------------- */

static void size_query_may_be_repeated(void** state) {
    TSS2_TCTI_CONTEXT* tcti = open_direct(*state);
    const Response expected = exchange(tcti, &FAMILY);
    Response response;
    assert_int_equal(expected.size, FAMILY_RESPONSE_SIZE);
    assert_rc(TSS2_RC_SUCCESS, transmit(tcti, &FAMILY));
    for (int i = 0; i < 3; i++) {
        size_t size = i == 0 ? 0 : 12345; /* ignored on entry */
        assert_rc(TSS2_RC_SUCCESS, Tss2_Tcti_Receive(tcti, &size, NULL, TSS2_TCTI_TIMEOUT_BLOCK));
        assert_int_equal(size, FAMILY_RESPONSE_SIZE);
    }
    /* exactly the size that was told is enough */
    response.size = FAMILY_RESPONSE_SIZE;
    assert_rc(TSS2_RC_SUCCESS, Tss2_Tcti_Receive(tcti, &response.size, response.bytes, -1));
    assert_same_response(&expected, &response);
    close_direct(tcti);
}

static void small_buffer_loses_nothing(void** state) {
    static const size_t too_small[] = {0, 1, 9, 10, FAMILY_RESPONSE_SIZE - 1};
    TSS2_TCTI_CONTEXT* tcti = open_direct(*state);
    const Response expected = exchange(tcti, &FAMILY);
    Response response;
    assert_rc(TSS2_RC_SUCCESS, transmit(tcti, &FAMILY));
    for (size_t i = 0; i < ARRAY_LEN(too_small); i++) {
        uint8_t buffer[FAMILY_RESPONSE_SIZE];
        size_t size = too_small[i];
        memset(buffer, CANARY, sizeof buffer);
        assert_rc(TSS2_TCTI_RC_INSUFFICIENT_BUFFER, Tss2_Tcti_Receive(tcti, &size, buffer, -1));
        assert_int_equal(size, FAMILY_RESPONSE_SIZE);
        for (size_t k = too_small[i]; k < sizeof buffer; k++) assert_int_equal(buffer[k], CANARY);
    }
    receive(tcti, &response);
    assert_same_response(&expected, &response);
    close_direct(tcti);
}

static void large_buffer_gets_the_real_size(void** state) {
    TSS2_TCTI_CONTEXT* tcti = open_direct(*state);
    uint8_t buffer[2 * MAX_RESPONSE];
    size_t size = sizeof buffer;
    memset(buffer, CANARY, sizeof buffer);
    assert_rc(TSS2_RC_SUCCESS, transmit(tcti, &RANDOM));
    assert_rc(TSS2_RC_SUCCESS, Tss2_Tcti_Receive(tcti, &size, buffer, -1));
    assert_int_equal(size, RANDOM_RESPONSE_SIZE);
    for (size_t i = size; i < sizeof buffer; i++) assert_int_equal(buffer[i], CANARY);
    close_direct(tcti);
}

static void timeouts(void** state) {
    static const int32_t bad[] = {-2, -1000, INT32_MIN};
    TSS2_TCTI_CONTEXT* tcti = open_direct(*state);
    Response response;
    size_t size = 0;
    assert_rc(TSS2_RC_SUCCESS, transmit(tcti, &RANDOM));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        response.size = sizeof response.bytes;
        assert_rc(TSS2_TCTI_RC_BAD_VALUE,
                  Tss2_Tcti_Receive(tcti, &response.size, response.bytes, bad[i]));
        assert_rc(TSS2_TCTI_RC_BAD_VALUE, Tss2_Tcti_Receive(tcti, &size, NULL, bad[i]));
    }
    /* NONE may be too early; the query stays valid however often that happens */
    TSS2_RC rc;
    do {
        rc = Tss2_Tcti_Receive(tcti, &size, NULL, TSS2_TCTI_TIMEOUT_NONE);
    } while (rc == TSS2_TCTI_RC_TRY_AGAIN);
    assert_rc(TSS2_RC_SUCCESS, rc);
    assert_int_equal(size, RANDOM_RESPONSE_SIZE);
    assert_rc(TSS2_RC_SUCCESS, Tss2_Tcti_Receive(tcti, &size, response.bytes, 60 * 1000));
    close_direct(tcti);
}

/* ---- the other functions ------------------------------------------------------------------- */

static void poll_handles_and_sticky_are_not_implemented(void** state) {
    TSS2_TCTI_CONTEXT* tcti = open_direct(*state);
    Response response;
    for (int round = 0; round < 2; round++) { /* in TRANSMIT, then in RECEIVE */
        TSS2_TCTI_POLL_HANDLE handles[1];
        size_t count = ARRAY_LEN(handles);
        TPM2_HANDLE handle = 0x80000000;
        assert_rc(TSS2_TCTI_RC_NOT_IMPLEMENTED, Tss2_Tcti_GetPollHandles(tcti, NULL, &count));
        assert_rc(TSS2_TCTI_RC_NOT_IMPLEMENTED, Tss2_Tcti_GetPollHandles(tcti, handles, &count));
        assert_rc(TSS2_TCTI_RC_NOT_IMPLEMENTED, Tss2_Tcti_MakeSticky(tcti, &handle, 1));
        if (round == 0) assert_rc(TSS2_RC_SUCCESS, transmit(tcti, &RANDOM));
    }
    receive(tcti, &response);
    close_direct(tcti);
}

/* Whether or not the child can cancel, the command's response is still owed. */
static void cancel_keeps_the_response(void** state) {
    TSS2_TCTI_CONTEXT* tcti = open_direct(*state);
    const Response expected = exchange(tcti, &FAMILY);
    Response response;
    assert_rc(TSS2_RC_SUCCESS, transmit(tcti, &FAMILY));
    const TSS2_RC rc = Tss2_Tcti_Cancel(tcti);
    assert_true(rc == TSS2_RC_SUCCESS || rc == TSS2_TCTI_RC_NOT_IMPLEMENTED);
    receive(tcti, &response);
    assert_same_response(&expected, &response);
    assert_rc(TSS2_TCTI_RC_BAD_SEQUENCE, Tss2_Tcti_Cancel(tcti));
    assert_usable(tcti);
    close_direct(tcti);
}

static void locality_belongs_to_the_context(void** state) {
    TSS2_TCTI_CONTEXT* at_2 = open_direct(*state);
    TSS2_TCTI_CONTEXT* at_0 = open_direct(*state);
    assert_rc(TSS2_RC_SUCCESS, Tss2_Tcti_SetLocality(at_2, 2));
    for (int round = 0; round < 2; round++) {
        assert_int_equal(response_code(at_2, &PCR_RESET_20), 0);
        assert_int_equal(response_code(at_0, &PCR_RESET_20), TPM_RC_LOCALITY_);
    }
    assert_rc(TSS2_RC_SUCCESS, Tss2_Tcti_SetLocality(at_2, 0));
    assert_int_equal(response_code(at_2, &PCR_RESET_20), TPM_RC_LOCALITY_);
    close_direct(at_0);
    close_direct(at_2);
}

/* ---- finalize ------------------------------------------------------------------------------ */

static void after_finalize_nothing_works_and_nothing_breaks(void** state) {
    TSS2_TCTI_CONTEXT* tcti = open_direct(*state);
    const TSS2_TCTI_CONTEXT_COMMON_V2 f = *(TSS2_TCTI_CONTEXT_COMMON_V2*)tcti;
    uint8_t buffer[MAX_RESPONSE];
    size_t size = sizeof buffer;
    TPM2_HANDLE handle = 0x80000000;
    f.v1.finalize(tcti);
    const TSS2_RC codes[] = {
        f.v1.transmit(tcti, RANDOM.size, RANDOM.bytes),
        f.v1.receive(tcti, &size, buffer, -1),
        f.v1.receive(tcti, &size, NULL, 0),
        f.v1.cancel(tcti),
        f.v1.getPollHandles(tcti, NULL, &size),
        f.v1.setLocality(tcti, 0),
        f.makeSticky(tcti, &handle, 1),
    };
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (codes[i] != TSS2_TCTI_RC_BAD_CONTEXT && codes[i] != TSS2_TCTI_RC_BAD_SEQUENCE) {
            fail_msg("call %zu after finalize: 0x%08" PRIx32, i, codes[i]);
        }
    }
    f.v1.finalize(tcti);
    free(tcti);
}

static void finalize_of_a_zeroed_block_is_harmless(void** state) {
    TSS2_TCTI_CONTEXT* tcti = open_direct(*state);
    void (*finalize)(TSS2_TCTI_CONTEXT*) = TSS2_TCTI_FINALIZE(tcti);
    size_t size;
    TSS2_TCTI_CONTEXT* block = new_block(*state, &size);
    finalize(block);
    assert_canary_alive(block, size);
    free(block);
    assert_usable(tcti);
    close_direct(tcti);
}

static void finalize_flushes_what_is_left(void** state) {
    TSS2_TCTI_CONTEXT* tcti = open_direct(*state);
    assert_int_equal(response_code(tcti, &HASH_SEQUENCE_START), 0);
    assert_int_equal(handles_in_tpm(0x80), 1); /* else the next line would show nothing */
    close_direct(tcti);
    assert_tpm_empty();
}

static void finalize_in_receive_state_leaves_nothing(void** state) {
    TSS2_TCTI_CONTEXT* tcti = open_direct(*state);
    assert_rc(TSS2_RC_SUCCESS, transmit(tcti, &HASH_SEQUENCE_START));
    close_direct(tcti);
    assert_tpm_empty();

    TSS2_TCTI_CONTEXT* loaded = open_loaded();
    assert_rc(TSS2_RC_SUCCESS, transmit(loaded, &HASH_SEQUENCE_START));
    Tss2_TctiLdr_Finalize(&loaded);
    assert_null(loaded);
    assert_tpm_empty();
}

/* ---- several contexts ---------------------------------------------------------------------- */

static void assert_interleaving_works(TSS2_TCTI_CONTEXT* a, TSS2_TCTI_CONTEXT* b) {
    const Response family = exchange(a, &FAMILY);
    Response response_a, response_b;
    for (int round = 0; round < 3; round++) {
        assert_rc(TSS2_RC_SUCCESS, transmit(a, &FAMILY));
        assert_rc(TSS2_RC_SUCCESS, transmit(b, &UNKNOWN));
        receive(b, &response_b);
        receive(a, &response_a);
        assert_same_response(&family, &response_a);
        assert_int_equal(read_u32(response_b.bytes + 6), TPM_RC_COMMAND_CODE_);
    }
}

static void two_contexts_interleave_in_one_thread(void** state) {
    TSS2_TCTI_CONTEXT *a = open_direct(*state), *b = open_direct(*state);
    assert_interleaving_works(a, b);
    close_direct(a);
    assert_usable(b); /* what they share outlives the first */
    close_direct(b);

    a = open_loaded();
    b = open_loaded();
    assert_interleaving_works(a, b);
    Tss2_TctiLdr_Finalize(&a);
    assert_usable(b);
    Tss2_TctiLdr_Finalize(&b);
}

static void one_may_finish_while_the_other_waits(void** state) {
    TSS2_TCTI_CONTEXT *a = open_direct(*state), *b = open_direct(*state);
    Response response;
    assert_rc(TSS2_RC_SUCCESS, transmit(a, &RANDOM));
    assert_rc(TSS2_RC_SUCCESS, transmit(b, &HASH_SEQUENCE_START));
    close_direct(b);
    receive(a, &response);
    assert_int_equal(response.size, RANDOM_RESPONSE_SIZE);
    close_direct(a);
    assert_tpm_empty();
}

static int child_of_fork(TSS2_TCTI_CONTEXT* tcti) {
    const bool refused = transmit(tcti, &FLUSH_FIRST) != TSS2_RC_SUCCESS;
    Tss2_Tcti_Finalize(tcti);
    free(tcti);
    return refused ? 0 : 1;
}

/* The TPM behind an inherited context is the parent's. */
static void fork_leaves_the_tpm_to_the_parent(void** state) {
    TSS2_TCTI_CONTEXT* tcti = open_direct(*state);
    int status = -1;
    assert_int_equal(response_code(tcti, &HASH_SEQUENCE_START), 0);
    const pid_t pid = fork();
    if (pid == 0) _exit(child_of_fork(tcti));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(handles_in_tpm(0x80), 1);
    assert_int_equal(response_code(tcti, &FLUSH_FIRST), 0);
    close_direct(tcti);
    assert_tpm_empty();
}

/* ---- through the loader -------------------------------------------------------------------- */

static void a_context_of_the_loader_works(void** state) {
    (void)state;
    TSS2_TCTI_CONTEXT* tcti = open_loaded();
    const Response expected = exchange(tcti, &FAMILY);
    Response response;
    size_t size = 0;
    TPM2_HANDLE handle = 0x80000000;
    assert_rc(TSS2_TCTI_RC_BAD_VALUE, Tss2_Tcti_Transmit(tcti, RANDOM.size - 1, RANDOM.bytes));
    assert_rc(TSS2_TCTI_RC_BAD_SEQUENCE, Tss2_Tcti_Receive(tcti, &size, NULL, -1));
    assert_rc(TSS2_TCTI_RC_BAD_SEQUENCE, Tss2_Tcti_Cancel(tcti));
    assert_rc(TSS2_TCTI_RC_NOT_IMPLEMENTED, Tss2_Tcti_GetPollHandles(tcti, NULL, &size));
    assert_rc(TSS2_TCTI_RC_NOT_IMPLEMENTED, Tss2_Tcti_MakeSticky(tcti, &handle, 1));
    assert_rc(TSS2_RC_SUCCESS, Tss2_Tcti_SetLocality(tcti, 0));
    assert_rc(TSS2_RC_SUCCESS, transmit(tcti, &FAMILY));
    assert_rc(TSS2_TCTI_RC_BAD_SEQUENCE, transmit(tcti, &FAMILY));
    assert_rc(TSS2_TCTI_RC_BAD_SEQUENCE, Tss2_Tcti_SetLocality(tcti, 0));
    assert_rc(TSS2_RC_SUCCESS, Tss2_Tcti_Receive(tcti, &size, NULL, -1));
    assert_int_equal(size, expected.size);
    receive(tcti, &response);
    assert_same_response(&expected, &response);
    Tss2_TctiLdr_Finalize(&tcti);
    assert_null(tcti);
}

/*
 * Without the library opened here, the loader's own handle is the last one. Has to be the first
 * test: the loader of tpm2-tss 3 keeps the library loaded once an Init has failed.
 */
static void the_library_unloads(void** state) {
    (void)state;
    assert_null(dlopen(library(), RTLD_NOW | RTLD_NOLOAD));
    TSS2_TCTI_CONTEXT *a = open_loaded(), *b = open_loaded();
    assert_usable(a);
    Tss2_TctiLdr_Finalize(&a);
    assert_usable(b);
    Tss2_TctiLdr_Finalize(&b);
    assert_null(dlopen(library(), RTLD_NOW | RTLD_NOLOAD));
}

/* -------------------------------------------------------------------------------------------- */

#define DIRECT(test) cmocka_unit_test_setup_teardown(test, open_library, close_library)

static const struct CMUnitTest TESTS[] = {
    cmocka_unit_test(the_library_unloads),
    DIRECT(info_describes_the_library),
    cmocka_unit_test(get_info_through_the_loader),
    DIRECT(init_tells_its_size),
    DIRECT(init_without_its_size_is_bad_value),
    DIRECT(init_fills_in_a_version_2_context),
    DIRECT(init_copies_its_conf),
    DIRECT(init_fails_when_its_child_does),
    DIRECT(conf_with_defaults_spelt_out),
    DIRECT(conf_with_a_wrong_option),
    DIRECT(conf_asking_for_what_is_not_there),
    DIRECT(conf_with_spaces_as_its_own_child),
    DIRECT(conf_of_the_child_is_its_own),
    cmocka_unit_test(loader_hands_the_error_up),
    DIRECT(null_context_is_bad_reference),
    DIRECT(null_arguments_are_bad_reference),
    DIRECT(foreign_context_is_bad_context),
    DIRECT(transmit_state_refuses_receive_and_cancel),
    DIRECT(receive_state_refuses_transmit_and_locality),
    DIRECT(transmit_with_a_wrong_size_is_bad_value),
    DIRECT(error_responses_are_ten_bytes),
    DIRECT(size_query_may_be_repeated),
    DIRECT(small_buffer_loses_nothing),
    DIRECT(large_buffer_gets_the_real_size),
    DIRECT(timeouts),
    DIRECT(poll_handles_and_sticky_are_not_implemented),
    DIRECT(cancel_keeps_the_response),
    DIRECT(locality_belongs_to_the_context),
    DIRECT(after_finalize_nothing_works_and_nothing_breaks),
    DIRECT(finalize_of_a_zeroed_block_is_harmless),
    DIRECT(finalize_flushes_what_is_left),
    DIRECT(finalize_in_receive_state_leaves_nothing),
    DIRECT(two_contexts_interleave_in_one_thread),
    DIRECT(one_may_finish_while_the_other_waits),
    DIRECT(fork_leaves_the_tpm_to_the_parent),
    cmocka_unit_test(a_context_of_the_loader_works),
};

int main(void) {
    snprintf(env.dir, sizeof env.dir, "/tmp/tcti-contract.XXXXXX");
    if (mkdtemp(env.dir) == NULL) return 99;
    snprintf(env.log, sizeof env.log, "%s/log", env.dir);
    /* Before any of the libraries reads them. */
    setenv("TSS2_LOG", "all+error", 1);
    setenv("TSS2_LOGFILE", env.log, 1);
    const int failed = cmocka_run_group_tests(TESTS, start_tpm, stop_tpm);
    remove_dir();
    return failed == 0 ? 0 : 1;
}
