/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a backend is: one table of C functions. The bicubic backend is part of
 * libtds; any other is a shared library `libtds_NAME.so` beside libtds (or in
 * the folder TDS_BACKEND_PATH) that exports one symbol,
 *
 *     const tds_backend *tds_backend_entry(void);
 *
 * and is opened when a session first asks for it. A new backend is a new folder
 * here; nothing else changes.
 *
 * It is plain C because it crosses a dlopen: no exception, no C++ type leaves a
 * backend. A function that fails writes one sentence into its `error`.
 */
#ifndef TDS_BACKENDS_BACKEND_H
#define TDS_BACKENDS_BACKEND_H

#include "tds/tds.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Raised by one with every change in this file: the engine refuses another. */
#define TDS_BACKEND_ABI 1
#define TDS_BACKEND_ENTRY "tds_backend_entry"

typedef struct tds_backend_error {
    char text[1024];
} tds_backend_error;

/* What a model's tds.json says (docs/model.md), read by the engine. */
typedef struct tds_backend_model {
    const char *path; /* for messages only: `data` is what was hashed */
    const void *data; /* the whole file, valid during open() */
    size_t size;
    int32_t alignment;
    int32_t features;
    int32_t no_reference;
    const char *cuda_precision;
} tds_backend_model;

typedef struct tds_backend_config {
    int32_t width, height, scale, bit_depth;
    const char *device;    /* "auto", "cpu", "cuda", "cuda:N" */
    const char *precision; /* "auto", "float32", ... */
    int32_t threads;       /* 0: as many as there are */
    tds_log log;           /* never NULL */
    void *log_context;
    const tds_backend_model *model; /* NULL: none */
} tds_backend_config;

/* What open() found. */
typedef struct tds_backend_traits {
    int32_t wants_references;       /* 0: reference() is never called, groups do not matter */
    int32_t runs_without_reference; /* enhance() takes jobs with neither reference */
    int32_t max_batch;              /* most jobs it gains from at once; 0: no limit */
    char device[32];
    char precision[16];
} tds_backend_traits;

typedef struct tds_backend_job {
    const tds_picture *target; /* LR, any memory and layout the session took */
    void *first, *last;        /* handles from reference() or `keep`; NULL: missing */
    float side[5];             /* docs/model.md */
    tds_picture *out;          /* full size, samples allocated */
    void **keep;               /* not NULL: also give the result as a reference handle */
} tds_backend_job;

typedef struct tds_backend {
    uint32_t abi; /* TDS_BACKEND_ABI */
    const char *name;

    /* "cpu,cuda:0" */
    tds_result (*devices)(char *buffer, size_t size, tds_backend_error *error);
    tds_result (*open)(const tds_backend_config *config, void **instance,
                       tds_backend_traits *traits, tds_backend_error *error);
    void (*close)(void *instance);

    /* Prepares a full-size picture as a reference. The picture stays valid
     * until the handle is dropped. NULL when wants_references is 0. */
    tds_result (*reference)(void *instance, const tds_picture *picture, void **handle,
                            tds_backend_error *error);
    void (*drop_reference)(void *instance, void *handle);

    /* All jobs or none: after an error no `keep` is set. */
    tds_result (*enhance)(void *instance, const tds_backend_job *jobs, int32_t count,
                          tds_backend_error *error);
    /* Bicubic up-sampling, for jobs without a reference that enhance() refuses. */
    tds_result (*upsample)(void *instance, const tds_picture *target, tds_picture *out,
                           tds_backend_error *error);

    /* Device memory. NULL in a backend that only knows host memory. */
    tds_result (*allocate)(void *instance, tds_picture *picture, tds_backend_error *error);
    tds_result (*copy)(void *instance, const tds_picture *from, tds_picture *to,
                       tds_backend_error *error);
} tds_backend;

typedef const tds_backend *(*tds_backend_entry_function)(void);

#ifdef __cplusplus
}
#endif

#endif /* TDS_BACKENDS_BACKEND_H */
