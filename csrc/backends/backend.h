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
#define TDS_BACKEND_ABI 2
#define TDS_BACKEND_ENTRY "tds_backend_entry"
/* Optional: `const char *tds_backend_misfit(void)`, asked before the entry: NULL, or what of its
 * surroundings the library was not made for, as in "torch 2.12 is loaded, and it needs 2.13". */
#define TDS_BACKEND_MISFIT "tds_backend_misfit"

#define TDS_BACKEND_MAX_REFERENCES 8 /* most slots a model may ask for */
#define TDS_BACKEND_FACTS 7          /* columns of a row of a job's `side` */

typedef struct tds_backend_error {
    char text[1024];
} tds_backend_error;

/* What a model's tds.json says (docs/model.md), read by the engine. */
typedef struct tds_backend_model {
    const char *path; /* for messages only: `data` is what was hashed */
    const void *data; /* the whole file, valid during open() */
    size_t size;
    const char *torch; /* the version that made it; "" when the file does not say */
    int32_t contract;  /* 1 or 2 */
    int32_t alignment;
    int32_t references;   /* R, slots of a job: 1..8; in contract 1 the two, before and after */
    int32_t features;     /* contract 1; in contract 2 there always are */
    int32_t no_reference; /* contract 1; in contract 2 always */
    int32_t halo;         /* contract 2: luma samples around a tile that its pixels depend on */
    const char *cuda_precision;
    const char *cpu_precision;
} tds_backend_model;

typedef struct tds_backend_config {
    int32_t width, height; /* of full-size pictures and of every output */
    int32_t scale;         /* k of the targets */
    int32_t bit_depth;
    int32_t hr_qp, lr_qp;  /* contract 1's; -1: not known */
    const char *device;    /* "auto", "cpu", "cuda", "cuda:N" */
    const char *precision; /* "auto", "float32", ... */
    int32_t threads;       /* 0: as many as there are */
    tds_log log;           /* never NULL */
    void *log_context;
    const tds_backend_model *model; /* NULL: none */
} tds_backend_config;

/* What open() found. */
typedef struct tds_backend_traits {
    int32_t references;             /* most references of a job. 0: prepare() is never called,
                                       what lies around a target does not matter */
    int32_t prepares_targets;       /* a job has its target's own handle too */
    int32_t runs_without_reference; /* enhance() takes jobs with no reference */
    int32_t max_batch;              /* most jobs it gains from at once; 0: no limit */
    char device[32];
    char precision[16];
} tds_backend_traits;

/* What is known of a picture that prepare() gets. Its size is tds_lr_size() of the
 * session's for this `scale`: above 1 the backend brings it up (bicubic), once. The scale
 * need not be that of the config: a model for k = 1 sees the LR neighbours of a pair. */
typedef struct tds_backend_facts {
    int32_t scale;    /* 1, 2 or 4 */
    int32_t enhanced; /* not 0: a model has made it, or changed it, already */
    int32_t qp;       /* 0..63; -1: not known */
    int32_t type;     /* 0 I, 1 P, 2 B; -1: not known */
} tds_backend_facts;

/* One picture to make. Row 0 of `side` is the target, row 1 + r is slot r. Columns: present
 * (0 or 1), signed distance in pictures (reference minus target), k, enhanced, QP, type,
 * strength (row 0 only: above 0, at most 1). A slot that is not present has a NULL handle
 * and a row of present 0, distance 0 and for the rest the target's facts, since the target
 * stands in for it. Contract 1 has slots 0 (before) and 1 (after) and reads `position`. */
typedef struct tds_backend_job {
    const tds_picture *target; /* of k = config.scale, any memory and layout the session took */
    void *handle;              /* its own, from prepare(); NULL unless prepares_targets */
    void *references[TDS_BACKEND_MAX_REFERENCES]; /* from prepare() or `keep`; NULL: missing */
    float side[1 + TDS_BACKEND_MAX_REFERENCES][TDS_BACKEND_FACTS];
    float position;   /* of the target between references 0 and 1 in time, 0 to 1; 0.5 when
                         either is missing */
    tds_picture *out; /* full size, samples allocated */
    void **keep;      /* not NULL: also give the result as a handle, as prepare() would */
} tds_backend_job;

typedef struct tds_backend {
    uint32_t abi; /* TDS_BACKEND_ABI */
    const char *name;

    /* "cpu,cuda:0" */
    tds_result (*devices)(char *buffer, size_t size, tds_backend_error *error);
    tds_result (*open)(const tds_backend_config *config, void **instance,
                       tds_backend_traits *traits, tds_backend_error *error);
    void (*close)(void *instance);

    /* Prepares a picture for every job that has it as reference or as target. It stays
     * valid until the handle is dropped. NULL when traits.references is 0. */
    tds_result (*prepare)(void *instance, const tds_picture *picture,
                          const tds_backend_facts *facts, void **handle, tds_backend_error *error);
    void (*drop)(void *instance, void *handle);

    /* All jobs or none: after an error no `keep` is set. */
    tds_result (*enhance)(void *instance, const tds_backend_job *jobs, int32_t count,
                          tds_backend_error *error);
    /* Bicubic, for LR targets that no model is to make. */
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
