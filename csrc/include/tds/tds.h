/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * libtds: the decoder-side engine of temporal down-sampling (TDS) video coding.
 *
 * A TDS video is two ordinary VVC or HEVC streams: HR, the key frames at full
 * size, and LR, the frames between them at 1/k of the size. Each is decoded by
 * any standard decoder. This engine takes the decoded pictures of both, pairs
 * them by time, rebuilds every LR picture at full size from its HR neighbours,
 * and hands all pictures out in display order. It also makes the pictures of a
 * plain stream, one that is no TDS video, better from their neighbours.
 *
 * This header is the whole public surface. It is plain C99, includes no codec,
 * no torch and no CUDA header, and may be included from C++.
 *
 * Use:
 *
 *     tds_settings s;
 *     tds_default_settings(&s);
 *     s.width = 1920; s.height = 1080; s.scale = 2; s.bit_depth = 8;
 *     tds_session *session = NULL;
 *     if (tds_session_open(&s, &session) < 0)
 *         fprintf(stderr, "%s\n", tds_last_error());
 *
 *     loop:
 *         tds_session_send(session, TDS_HR, &picture)  -> OK, AGAIN: receive first
 *         tds_session_receive(session, &out)           -> OK, AGAIN: send more, END
 *
 * Threads: calls on one session must not overlap; different sessions are
 * independent. No call blocks except in the work of the backend itself.
 *
 * Errors are values: every function that can fail returns a tds_result; below
 * zero is an error, and tds_last_error() then holds one sentence for a person.
 */
#ifndef TDS_TDS_H
#define TDS_TDS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TDS_VERSION_MAJOR 0
#define TDS_VERSION_MINOR 1
#define TDS_VERSION_PATCH 0

/* Of what a program is compiled against: structs, enumerations and functions. Raised by one
 * when a program has to be compiled again; the shared library's soname is libtds.so.NUMBER.
 * Fields come in where `reserved` is, without a new number: what tds_default_settings() and
 * tds_picture_init() leave in them always means what it meant before. */
#define TDS_API_NUMBER 2

#define TDS_API __attribute__((visibility("default")))

/* No time stamp. Never valid on a picture that is sent. */
#define TDS_NO_PTS INT64_MIN

/* Hard limits; input beyond them is refused, never truncated. */
#define TDS_MIN_SIZE 16      /* width or height of full-size pictures, in luma samples */
#define TDS_MAX_SIZE 16384   /* likewise */
#define TDS_MAX_PENDING 256  /* LR pictures between two HR pictures that are held */
#define TDS_MAX_QP 63        /* of VVC; other codecs end earlier */
#define TDS_MAX_THREADS 1024 /* that a session may be told to use */
#define TDS_MAX_REFERENCES 8 /* pictures a model may see beside its target */
#define TDS_MAX_LOOK_AHEAD 2 /* pictures after its target that it sees in a plain stream */

/* ------------------------------------------------------------- results -- */

typedef enum tds_result {
    TDS_OK = 0,
    TDS_AGAIN = 1, /* not now: receive (after send) or send more (after receive) */
    TDS_END = 2,   /* both streams have ended and every picture was handed out */

    TDS_ERROR_INVALID = -1,     /* an argument or a picture breaks this contract */
    TDS_ERROR_MEMORY = -2,      /* out of host or device memory */
    TDS_ERROR_UNSUPPORTED = -3, /* valid, but this build or machine cannot do it */
    TDS_ERROR_MODEL = -4,       /* the model file is missing, damaged or does not fit */
    TDS_ERROR_DEVICE = -5,      /* the named device is not there or failed */
    TDS_ERROR_BACKEND = -6,     /* the backend failed while it worked */
    TDS_ERROR_ORDER = -7        /* a time stamp that does not increase within its stream */
} tds_result;

/* One sentence that says what went wrong in the last failed call on this
 * thread, and what to do. Never NULL; valid until the next call on the thread. */
TDS_API const char *tds_last_error(void);

/* "0.1.0" */
TDS_API const char *tds_version(void);

/* TDS_API_NUMBER of the library, for callers that open it by hand. */
TDS_API int32_t tds_api_number(void);

/* ------------------------------------------------------------ pictures -- */

/* Which of the two streams a picture belongs to. */
typedef enum tds_role {
    TDS_HR = 0, /* key frame at full size; every picture of a plain stream */
    TDS_LR = 1  /* frame at 1/k of the size */
} tds_role;

typedef enum tds_memory {
    TDS_MEMORY_HOST = 0,
    TDS_MEMORY_CUDA = 1 /* data[] are CUDA device pointers on device `device_index` */
} tds_memory;

/* Sample layouts. Above 8 bits, samples are 16-bit little-endian. */
typedef enum tds_layout {
    TDS_LAYOUT_PLANAR = 0,    /* Y, Cb, Cr; value in the low bits (yuv420p, yuv420p10le) */
    TDS_LAYOUT_SEMIPLANAR = 1 /* Y, CbCr interleaved; above 8 bits in the high bits (NV12, P010) */
} tds_layout;

/* How many chroma samples there are. Chroma lies on a grid of its own that has its centre with that
 * of luma. Pictures that are not 4:2:0 are planar and in host memory. */
typedef enum tds_chroma {
    TDS_CHROMA_420 = 0, /* half as many across and down */
    TDS_CHROMA_422 = 1, /* half as many across (yuv422p, yuv422p10le) */
    TDS_CHROMA_444 = 2  /* as many as of luma (yuv444p, yuv444p10le) */
} tds_chroma;

/* How an output picture was made. */
typedef enum tds_status {
    TDS_STATUS_PASSED = 0,    /* a full-size picture, bit for bit as it was sent */
    TDS_STATUS_ENHANCED = 1,  /* an LR picture rebuilt by the model */
    TDS_STATUS_UPSAMPLED = 2, /* an LR picture up-sampled without a model; see reason */
    TDS_STATUS_REPEATED = 3,  /* no picture arrived for this time: the nearest one again */
    TDS_STATUS_REFINED = 4    /* a full-size picture that a model changed */
} tds_status;

/* Why an output picture is not simply passed, or made from all that its model could see.
 * Bits; 0 when there is nothing to say. */
typedef enum tds_reason {
    TDS_REASON_NONE = 0,
    TDS_REASON_NO_FIRST = 1 << 0,   /* no HR picture before this run of LR pictures */
    TDS_REASON_NO_LAST = 1 << 1,    /* no HR picture after it */
    TDS_REASON_NO_MODEL = 1 << 2,   /* the backend has no model (bicubic) */
    TDS_REASON_LOST = 1 << 3,       /* tds_session_send_lost() was told of this picture */
    TDS_REASON_LONG_GROUP = 1 << 4, /* the run was longer than max_group: treated in parts, or
                                       the HR picture after it not waited for */
    TDS_REASON_REF_LOST = 1 << 5,   /* a reference is itself marked lost or corrupt */
    TDS_REASON_CORRUPT = 1 << 6,    /* the sender marked this picture corrupt */
    TDS_REASON_CUT = 1 << 7,        /* a reference lies in another scene and was not used */
    TDS_REASON_STRENGTH = 1 << 8    /* strength 0: up-sampled, though there is a model */
} tds_reason;

/* "passed", "enhanced", "upsampled", "repeated", "refined". Never NULL. */
TDS_API const char *tds_status_name(tds_status status);
/* Writes the reasons as words with commas ("no-first,no-model") into `buffer`,
 * always terminated (128 bytes hold them all); returns the length needed without the terminator. */
TDS_API size_t tds_reason_names(unsigned reasons, char *buffer, size_t size);

/* A picture, in or out.
 *
 * Ownership in: when `release` is NULL the samples are copied during the call.
 * When it is set, a call that returns TDS_OK takes the picture over: the
 * samples must stay unchanged until the engine calls release(owner), once,
 * from any thread. A call that returns anything else takes nothing.
 * Ownership out: the caller owns what receive gives and ends it with
 * tds_picture_release(). The planes of a passed picture are those that were
 * sent, and `owner` is the sender's again until it is released. */
typedef struct tds_picture {
    void *data[3];       /* one pointer a plane; data[2] NULL when semiplanar */
    ptrdiff_t stride[3]; /* bytes from a row to the next; may be negative */
    int32_t width;       /* luma samples; even */
    int32_t height;      /* luma samples; even */
    int32_t bit_depth;   /* 8 or 10 */
    tds_layout layout;
    tds_memory memory;
    int32_t device_index; /* CUDA ordinal; 0 for host memory */
    void *cuda_stream;    /* CUstream the samples are ready on, NULL: the default one */
    int64_t pts;          /* display time, in any unit shared by both streams */
    int32_t corrupt;      /* in: not 0 when the decoder reported damage */
    float strength;       /* in: of the model's change to this picture, 0 to 1; 0 leaves it as
                             it is; below 0 (default): tds_settings.strength */
    int32_t qp;           /* in: 0..TDS_MAX_QP; -1 (default): not known. Used only with */
    int32_t type;         /* picture_facts; in: 0 I, 1 P, 2 B, -1 (default): not known */

    /* out only */
    tds_status status;
    unsigned reason;   /* bits of tds_reason */
    int64_t first_pts; /* time of the nearest reference used before it, and of the one after */
    int64_t last_pts;  /* it, or TDS_NO_PTS */

    void *opaque; /* the sender's, never touched; comes out with the same picture's
                     output (whatever the status); NULL when repeated */
    void *owner;
    void (*release)(void *owner);
    tds_chroma chroma; /* TDS_CHROMA_420 by default */
    int32_t reserved_chroma;
    uint64_t reserved[3]; /* 0 */
} tds_picture;

/* Sets every field to its default (no planes, pts TDS_NO_PTS, 8 bits, host). Every picture
 * starts with this. */
TDS_API void tds_picture_init(tds_picture *picture);
/* Calls release(owner) if set, then tds_picture_init(). NULL is allowed. */
TDS_API void tds_picture_release(tds_picture *picture);

/* ------------------------------------------------------------ settings -- */

/* Allocates the samples of an output picture, for callers with pools of their
 * own (FFmpeg). `picture` arrives with width, height, bit_depth, layout, chroma,
 * memory, device_index and pts set; the function fills data, stride, owner and
 * release. Called from tds_session_receive or _send, on the calling thread. */
typedef tds_result (*tds_allocate)(void *context, tds_picture *picture);

typedef enum tds_log_level {
    TDS_LOG_ERROR = 0,
    TDS_LOG_WARNING = 1,
    TDS_LOG_INFO = 2,
    TDS_LOG_DEBUG = 3
} tds_log_level;
typedef void (*tds_log)(void *context, tds_log_level level, const char *message);

/* What the pictures of a session are. */
typedef enum tds_kind {
    TDS_KIND_PAIR = 0, /* two streams, HR and LR */
    TDS_KIND_PLAIN = 1 /* one stream of full-size pictures, sent as TDS_HR; scale is 1 */
} tds_kind;

/* Starts with tds_default_settings(). */
typedef struct tds_settings {
    int32_t width;     /* of HR pictures, luma samples; even, TDS_MIN_SIZE..TDS_MAX_SIZE */
    int32_t height;    /* likewise */
    int32_t scale;     /* k: 1, 2 (default) or 4. LR size is tds_lr_size(size, k) */
    int32_t bit_depth; /* 8 (default) or 10, of both streams and of the output */

    const char *backend;      /* "bicubic", "torchscript", or "auto" (default): torchscript
                                 when a model is given, else bicubic; for LR pictures bicubic
                                 too, with a warning, where torchscript does not load */
    const char *model;        /* path of the model file; NULL (default): none */
    const char *model_sha256; /* 64 hex digits the file must have; NULL: not checked */
    const char *device;       /* "auto" (default): the first CUDA device that works, else the
                                 CPU; "cpu"; "cuda"; "cuda:N" */
    const char *precision;    /* "auto" (default), "float32", "float16", "bfloat16". auto is
                                 float32 on the CPU, what the model's metadata asks for on CUDA */
    int32_t threads; /* 0..TDS_MAX_THREADS CPU threads of the backend; 0 (default): as many as there
                        are */

    int32_t max_group; /* the longest run of LR pictures enhanced as one group, and with
                          one more, which shows where a run ends, all that are held;
                          1..TDS_MAX_PENDING - 1, default 64 */
    int32_t max_batch; /* pictures handed to the backend at once; 1..TDS_MAX_PENDING,
                          default 4. Fewer need less memory, more fill a GPU better */

    int32_t hr_qp; /* QPs of the two streams, 0..TDS_MAX_QP, for models that use them; */
    int32_t lr_qp; /* -1 (default): not known */

    tds_kind kind;        /* TDS_KIND_PAIR (default) or TDS_KIND_PLAIN, whose `model` is one of
                             contract 2 for k = 1 */
    const char *hr_model; /* path of a model of contract 2 for k = 1 that refines the HR pictures
                             of a pair, before LR pictures are made from them; NULL (default):
                             HR pictures are passed */
    const char *hr_model_sha256; /* 64 hex digits the file must have; NULL: not checked */
    int32_t causal;              /* not 0: a picture is made from those before it alone, at once;
                                    0 by default */
    float strength;        /* of the models' changes, 0 to 1 (default), for pictures that do not
                              say; models of contract 1 know 0 and 1 */
    int32_t picture_facts; /* not 0: models of contract 2 are told each picture's own QP, where it
                              has one, and type; 0 (default): only what hr_qp and lr_qp say, since
                              not every caller knows more and all are to get the same pictures */

    tds_memory output_memory; /* where outputs live that are not passed through, which stay
                                 where they were sent from; TDS_MEMORY_HOST by default */
    tds_layout output_layout; /* of enhanced pictures; TDS_LAYOUT_PLANAR by default */
    tds_allocate allocate;    /* NULL (default): the engine's own pool */
    void *allocate_context;
    tds_log log; /* NULL (default): warnings and errors to stderr */
    void *log_context;
    tds_chroma chroma; /* of both streams and of the output; TDS_CHROMA_420 by default. Models know
                          4:2:0: of other pictures they get the mean of the chroma samples that lie
                          together, and what they change of that is brought up and added to the
                          picture's own chroma, of LR pictures after it is up-sampled */
    int32_t reserved_chroma; /* 0 */
    uint64_t reserved[7];    /* 0 */
} tds_settings;

TDS_API void tds_default_settings(tds_settings *settings);

/* The LR size that belongs to an HR size: 2 * ceil(size / (2 k)). The encoder
 * pads the source at the right and at the bottom, by repeating its last
 * samples, to k times this size before it down-samples; the engine crops the
 * up-sampled picture to the HR size. So the ratio is exactly k for any even
 * size. Returns 0 when an argument is out of range. */
TDS_API int32_t tds_lr_size(int32_t hr_size, int32_t scale);

/* The k for which (lr_width, lr_height) belongs to (width, height): 1, 2 or 4;
 * 0 when there is none. */
TDS_API int32_t tds_scale_of(int32_t width, int32_t height, int32_t lr_width, int32_t lr_height);

/* ------------------------------------------------------------- session -- */

typedef struct tds_session tds_session;

/* Opens a session. The backend library is opened and the model loaded here.
 * On error *session is NULL. */
TDS_API tds_result tds_session_open(const tds_settings *settings, tds_session **session);

/* Frees a session and every picture in it. NULL is allowed. */
TDS_API void tds_session_close(tds_session *session);

/* Sends the next picture of one stream; times must increase within a stream
 * and share one unit between the two. NULL ends the stream (again is allowed).
 *
 * TDS_OK: taken. TDS_AGAIN: this stream is far enough ahead; receive, or send
 * the other stream (tds_session_wants says which), then send it again.
 *
 * In a plain session every picture is sent as TDS_HR and nothing as TDS_LR.
 *
 * An LR picture at the time of an HR picture (in LDP and RA the LR stream starts with
 * the down-sampled first boundary) is dropped. */
TDS_API tds_result tds_session_send(tds_session *session, tds_role role,
                                    const tds_picture *picture);

/* Says that a picture of this stream is known to exist at time `pts` but was
 * lost. It is output as TDS_STATUS_REPEATED, or, when the other stream has a
 * picture for that time, made from that one. Order and TDS_AGAIN as in send. */
TDS_API tds_result tds_session_send_lost(tds_session *session, tds_role role, int64_t pts);

/* The next picture in display order. TDS_AGAIN: send more. TDS_END: all done. */
TDS_API tds_result tds_session_receive(tds_session *session, tds_picture *picture);

/* Which streams the session needs before receive can go on: bit (1 << role).
 * 0 when a picture can be received now or all has ended. A caller that can
 * choose which stream to decode next follows this and never needs a queue. */
TDS_API unsigned tds_session_wants(const tds_session *session);

/* Drops all pictures and ends, as after a seek; model and settings stay. */
TDS_API tds_result tds_session_flush(tds_session *session);

typedef struct tds_info {
    const char *backend;      /* "bicubic" or "torchscript" */
    const char *device;       /* "cpu", "cuda:0" */
    const char *precision;    /* "float32", ... */
    const char *model_name;   /* from the model's metadata; "" without a model */
    const char *model_sha256; /* of the file that was loaded; "" without a model */
    int64_t passed, enhanced, upsampled, repeated; /* pictures handed out so far */
    int64_t dropped_lr;                            /* LR pictures at the time of an HR picture */
    int64_t references;                            /* pictures prepared by the backend */
    int64_t batches;                               /* calls of the backend's enhance */
    int64_t refined;                               /* pictures handed out so far */
    const char *hr_model_name;                     /* as model_name; "" without a model for */
    const char *hr_model_sha256;                   /* HR pictures */
    int32_t contract; /* of the model (docs/model.md): 1 or 2; 0 without a model */
    int32_t latency;  /* plain: the most pictures that must be sent after one before it comes
                         out; a pair waits for the end of a run, see docs/c-api.md: -1 */
    uint64_t reserved[8];
} tds_info;

/* Strings live as long as the session. */
TDS_API tds_result tds_session_info(const tds_session *session, tds_info *info);

/* ------------------------------------------------------------ backends -- */

/* Whether a backend can be used here ("bicubic", "torchscript"): TDS_OK, or an
 * error whose tds_last_error() says what is missing. Opens its library. */
TDS_API tds_result tds_backend_available(const char *backend);

/* Writes a comma-separated list of the devices a backend sees ("cpu,cuda:0"). */
TDS_API tds_result tds_backend_devices(const char *backend, char *buffer, size_t size);

/* Reads a model file's JSON metadata without running the model; *json is freed
 * with tds_free(). */
TDS_API tds_result tds_model_metadata(const char *path, char **json);
TDS_API void tds_free(void *memory);

/* ----------------------------------------------------------------- tag -- */

/* The JSON that pairs the two streams (docs/container.md): the value of a container's
 * global key `tds`, or a sidecar. All readers read it here, so all refuse the same. */
typedef struct tds_tag tds_tag;

#define TDS_MAX_TAG (1 << 20)   /* bytes of JSON */
#define TDS_MAX_FRAMES 10000000 /* source frames of one tag: 46 hours at 60 fps */
#define TDS_MAX_RUNS 20000      /* entries of one run-length list */
#define TDS_MAX_MODEL_NAME 64   /* characters of a model's name in a tag */

/* A positive fraction in lowest terms: seconds a tick, or frames a second. */
typedef struct tds_rational {
    int32_t num, den;
} tds_rational;

typedef struct tds_tag_values {
    int32_t scale;         /* k: 1, 2 or 4 */
    int32_t width, height; /* of the source and of HR, luma samples */
    int32_t bit_depth;     /* 8 or 10 */
    const char *codec;     /* these four for people; never NULL */
    const char *config;
    const char *encoder;
    const char *preset;
    int32_t hr_qp, lr_qp;     /* -1: not known */
    int32_t group;            /* N, as it was asked for */
    int32_t shared;           /* not 0: groups share a boundary */
    const char *model;        /* a plain name; NULL: none is named */
    const char *model_sha256; /* 64 hex digits in lower case; NULL: not said */
    int32_t refine_hr;        /* not 0: HR pictures are to be enhanced too ("hr": "refine") */
    int32_t has_strengths;    /* not 0: some frame's strength is not 1 */

    int32_t times_known; /* 0: too irregular to be kept; frames and roles are still known */
    int32_t regular;     /* not 0: a constant rate, no list of differences */
    tds_rational time_base;
    tds_rational rate;  /* nominal */
    int64_t start, end; /* time of the first and of the last frame, in ticks */
    int64_t frames, hr_frames, lr_frames, leads;
} tds_tag_values;

/* One source frame, in display order. */
typedef struct tds_tag_frame {
    int64_t time; /* ticks of time_base; TDS_NO_PTS when times are not known */
    tds_role role;
    int32_t lead;   /* not 0: an HR frame of which the LR stream has a small copy too */
    float strength; /* 0, 0.5 or 1 */
} tds_tag_frame;

typedef enum tds_runs {
    TDS_RUNS_GROUPS = 0,   /* size (negative: shares no boundary with the one before), count */
    TDS_RUNS_LEADS = 1,    /* distance, count */
    TDS_RUNS_DELTAS = 2,   /* ticks from a frame to the next, count; empty when regular */
    TDS_RUNS_STRENGTHS = 3 /* halves (0, 1, 2), count */
} tds_runs;

/* Reads a tag. `where` names the file or option in messages. TDS_ERROR_UNSUPPORTED for
 * another version of the specification, TDS_ERROR_INVALID for what is damaged or beyond
 * the limits. Costs no more than the text is long, whatever it claims. */
TDS_API tds_result tds_tag_parse(const char *json, size_t size, const char *where, tds_tag **tag);
TDS_API void tds_tag_free(tds_tag *tag); /* NULL is allowed */

/* Strings live as long as the tag. */
TDS_API tds_result tds_tag_read(const tds_tag *tag, tds_tag_values *values);
/* Writes up to `count` frames from frame `first` on; returns how many, 0 at the end. */
TDS_API size_t tds_tag_frames(const tds_tag *tag, int64_t first, tds_tag_frame *frames,
                              size_t count);
/* A run-length list as it stands in the tag: *pairs has 2 * (what is returned) numbers. */
TDS_API size_t tds_tag_runs(const tds_tag *tag, tds_runs which, const int64_t **pairs);

/* --------------------------------------------------------------- times -- */

/* The nominal frame rate of pictures at these times, in ticks of `time_base`, in any
 * order: give the first pictures of both streams (HR alone shows the rate of key frames).
 * The first TDS_RATE_PICTURES different times count, so that all readers agree. Exact
 * where they are evenly spaced, else (times once rounded to milliseconds) the highest usual
 * rate that they allow: at a rate that is too low a program would drop pictures. 25 when
 * fewer than two times are given. */
#define TDS_RATE_PICTURES 8
TDS_API tds_result tds_frame_rate(const int64_t *times, size_t count, tds_rational time_base,
                                  tds_rational *rate);

/* Compares the times of two tracks with the plan of their tag and says what to send to a
 * session. The plan never overrules what the tracks show without a word:
 *
 * - A picture belongs to the plan's frame whose time is within half a tick of the coarser
 *   of the two clocks, or half a millisecond, which files may have been through.
 * - Where the times of the tracks are moved against the plan's (a part cut out), or those of
 *   LR against those of HR (a fragmented MP4, which has no edit lists), the shift is found
 *   from the first times. LR pictures come out moved to HR's times.
 * - A picture of the plan that is missing within the span of the tracks is said to be lost.
 *   Before their first and after their last picture nothing is: the plan begins late or
 *   ends early, with a notice.
 * - Pictures at times that the plan does not know stay where they are. After 8 of them in
 *   a row, or when the first times fit badly, the plan is left aside, with a notice.
 *
 * Without a tag, or when its times are not known, every picture comes out as it went in, but
 * where both tracks are said to begin at one time and only a first picture or the whole LR track
 * moved makes the pictures of both follow one another in groups without a gap: then that is done,
 * with a notice. Where several ways would do it is TDS_ERROR_INVALID.
 *
 * Memory is bounded by what was pushed and has not come out. */
typedef struct tds_times tds_times;

typedef struct tds_times_settings {
    const tds_tag *tag;    /* NULL: none. Must outlive the tds_times */
    tds_rational unit;     /* of all times in and out here */
    tds_rational clock[2]; /* by role: the time base of the track, for the tolerance */
    int64_t offset;        /* what is known to have been added to the plan's times to give those of
                              both tracks (by a seek in a whole file), in `unit`; the first shift
                              that is tried */
    int32_t offset_known;  /* not 0: it is, so that frames are certain, and that the video begins
                              or ends elsewhere than its plan is as it was asked for */
} tds_times_settings;

typedef enum tds_event_kind {
    TDS_EVENT_PICTURE = 0, /* the oldest picture that was pushed and has not come out */
    TDS_EVENT_LOST = 1     /* for tds_session_send_lost() */
} tds_event_kind;

typedef struct tds_event {
    tds_event_kind kind;
    int64_t pts;    /* in `unit`; what the session gets */
    int64_t frame;  /* of the plan, from 0; -1: none */
    float strength; /* 0, 0.5 or 1 by the tag; -1: it says none, or its frames are not certain */
} tds_event;

typedef struct tds_times_report {
    int64_t lost[2];      /* by role: pictures missing within the span */
    int64_t unplanned[2]; /* pictures at times that the plan does not know */
    int64_t shift[2];     /* by role: what the track's times are behind the plan's, in `unit` */
    int64_t late, early;  /* frames of the plan before and after the span (at the end only) */
    int32_t planned;      /* not 0: the plan is used (still) */
} tds_times_report;

TDS_API tds_result tds_times_open(const tds_times_settings *settings, tds_times **times);
TDS_API void tds_times_close(tds_times *times);

/* Optional, before the first push: that a track has a picture at this time, whether or not it
 * decodes. Any order, any number; the first ones and the very last tell most: with them a
 * picture that does not decode at either end is still lost rather than beyond the span. */
TDS_API tds_result tds_times_show(tds_times *times, tds_role role, int64_t pts);

/* The next decoded picture of a track; times must increase (else TDS_ERROR_ORDER). */
TDS_API tds_result tds_times_push(tds_times *times, tds_role role, int64_t pts);
TDS_API tds_result tds_times_end(tds_times *times, tds_role role);

/* What to send next for a stream. TDS_AGAIN: push a picture, or the end, of a track of
 * tds_times_wants() first. TDS_END: all of this stream was given. */
TDS_API tds_result tds_times_next(tds_times *times, tds_role role, tds_event *event);
/* The tracks, bit (1 << role), that tds_times_next(role) waits for. */
TDS_API unsigned tds_times_wants(const tds_times *times, tds_role role);

TDS_API tds_result tds_times_info(const tds_times *times, tds_times_report *report);
/* What is to be said so far, a sentence each with a line feed after it; "" when nothing is.
 * Complete once both streams gave TDS_END. Lives until the next call on `times`. */
TDS_API const char *tds_times_notices(tds_times *times);

/* -------------------------------------------------------------- models -- */

/* Which model is asked for. All may be NULL or 0 but `scale`. */
typedef struct tds_model_request {
    const char *model;   /* what a person asked for: a name, or a file (with a '/' or ending in .pt,
                            .ts, .pth or .safetensors) */
    const char *sha256;  /* 64 hex digits the file, or the weights it was made of, must have */
    const tds_tag *tag;  /* names a model and its hash when no person does */
    int32_t scale;       /* k: 1 (HR pictures, plain streams), 2 or 4 */
    const char *device;  /* as in tds_settings, for the default */
    const char *folders; /* further folders to search after TDS_MODEL_PATH, with ':' between */
    int32_t weights;     /* not 0: the caller makes archives of weights (.safetensors) itself */
    int32_t refine_hr;   /* not 0: the k = 1 model of the same name is wanted too */
} tds_model_request;

typedef struct tds_model_choice {
    char path[4096]; /* for tds_settings.model; weights only where the request allows them */
    char
        hr_path[4096]; /* of the k = 1 model of the same name; "" when not asked for or not there */
    char name[TDS_MAX_MODEL_NAME + 1]; /* "" for a file */
    int32_t of_tag;     /* not 0: name and hash are those of the tag, so its strengths hold */
    char notices[2048]; /* a sentence each with a line feed after it; "" when there is none */
} tds_model_choice;

/* Chooses the model: the one a person asked for; else the one the tag names, or, with a notice,
 * the one of that name that is installed, or the default; else the default, "standard" on
 * CUDA, "fast" on the CPU, or the other of the two.
 *
 * Names are looked for as NAME-kK.pt (and .safetensors) in the folders of TDS_MODEL_PATH
 * (with ':' between), in `folders`, in share/tds/models beside the folder of libtds, and in
 * `models` in the user's cache (TDS_CACHE, else tds in XDG_CACHE_HOME or ~/.cache); the first
 * one counts. Where it is weights and the caller wants an archive, it is the one that Python
 * made of them into the cache.
 *
 * Where only Python has it, what Python exported last of that name is taken.
 *
 * TDS_ERROR_MODEL when there is none that fits; the sentence says what there is.
 * TDS_ERROR_INVALID when the file has another hash than the request asks for. */
TDS_API tds_result tds_model_choose(const tds_model_request *request, tds_model_choice *choice);

/* tds_model_choose() of a name or a file alone. TDS_ERROR_INVALID when `size` is too small. */
TDS_API tds_result tds_model_find(const char *name, int32_t scale, const char *device, char *path,
                                  size_t size);

#ifdef __cplusplus
}
#endif

#endif /* TDS_TDS_H */
