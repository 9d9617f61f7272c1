/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * This file is part of FFmpeg.
 *
 * FFmpeg is free software; you can redistribute it and/or
 * modify it under the terms of the GNU Lesser General Public
 * License as published by the Free Software Foundation; either
 * version 2.1 of the License, or (at your option) any later version.
 *
 * FFmpeg is distributed in the hope that it will be useful,
 * but WITHOUT ANY WARRANTY; without even the implied warranty of
 * MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the GNU
 * Lesser General Public License for more details.
 *
 * You should have received a copy of the GNU Lesser General Public
 * License along with FFmpeg; if not, write to the Free Software
 * Foundation, Inc., 51 Franklin Street, Fifth Floor, Boston, MA 02110-1301 USA
 */

/**
 * @file
 * Decoder side of temporal down-sampling (TDS) video coding.
 *
 * Two inputs: HR, the key frames at full size, and LR, the frames between them
 * at 1/k of the size. Or one input: any video, each frame of which is enhanced
 * from its neighbours. One output: all frames at full size in display order.
 * What the container's tag says, which model is used, where each picture
 * belongs, pairing, the order of work and the enhancement itself are libtds;
 * this file moves frames in and out of it and keeps everything FFmpeg knows
 * about a frame that libtds does not.
 */

#include <inttypes.h>
#include <string.h>

#include <tds/tds.h>

#include "config.h"

#include "libavutil/avstring.h"
#include "libavutil/fifo.h"
#include "libavutil/frame.h"
#include "libavutil/hwcontext.h"
#include "libavutil/mathematics.h"
#include "libavutil/mem.h"
#include "libavutil/opt.h"
#include "libavutil/parseutils.h"
#include "libavutil/pixdesc.h"
#include "libavutil/rational.h"
#include "libavutil/timestamp.h"
#if CONFIG_CUDA
#include "libavutil/cuda_check.h"
#include "libavutil/hwcontext_cuda_internal.h"
#endif

#include "avfilter.h"
#include "filters.h"
#include "formats.h"
#include "version.h"
#include "video.h"

enum OnMissing {
    ON_MISSING_ENHANCE,
    ON_MISSING_DROP,
    ON_MISSING_ERROR,
    ON_MISSING_NB
};

enum Fallback {
    FALLBACK_AUTO,
    FALLBACK_BICUBIC,
    FALLBACK_ERROR,
    FALLBACK_NB
};

enum HR {
    HR_AUTO,
    HR_PASS,
    HR_REFINE,
    HR_NB
};

enum Backend { BACKEND_AUTO, BACKEND_BICUBIC, BACKEND_TORCHSCRIPT, BACKEND_NB };
static const char *const backend_names[BACKEND_NB] = { "auto", "bicubic", "torchscript" };

enum Precision { PREC_AUTO, PREC_FLOAT32, PREC_FLOAT16, PREC_BFLOAT16, PREC_NB };
static const char *const precision_names[PREC_NB] = { "auto", "float32", "float16", "bfloat16" };

/* What the program that reads the files knows about one input; see know_input(). */
typedef struct Source {
    int      known;
    int64_t  start;    ///< microseconds; AV_NOPTS_VALUE: from its beginning
    int64_t  duration; ///< microseconds; INT64_MAX: all
    int64_t  offset;   ///< microseconds that were added to the file's times
    int64_t  first;    ///< time of the file's first picture, likewise; AV_NOPTS_VALUE: not known
    int64_t  length;   ///< of the file, likewise
    char    *tag;      ///< the container's tag "tds"; NULL: it has none
} Source;

typedef struct TDSEnhanceContext {
    const AVClass *class;

    /* options */
    char   *model;
    char   *model_sha256;
    char   *device;
    int     backend;
    int     precision;
    char   *rate_str;
    int     on_missing;
    int     fallback;
    int     hr;
    int     causal;
    float   strength;  ///< of the model's changes; below 0: as the tag says, else 1
    int     hr_qp, lr_qp;
    int     max_batch;
    int64_t start_time; ///< microseconds; earlier pictures are made but not output
    int64_t max_duration; ///< microseconds of output; 0: all
    int     nb_inputs;
    char   *container;

    /* state */
    Source  sources[2]; ///< by input pad
    int64_t start;      ///< as start_time, from the option or the HR input
    int64_t length;     ///< as max_duration, likewise
    tds_tag *tag;       ///< of container, likewise, or from the LR input; NULL: there is none
    tds_tag_values tagged;
    int     use_strengths; ///< the model that runs is the one that the tag's strengths are for
    tds_times *times;   ///< where each picture belongs
    char   *said;       ///< its notices that were logged
    AVFifo *waiting[2]; ///< frames that it has not placed yet
    tds_session *session;
    int     pad_of[2]; ///< input pad of TDS_HR and TDS_LR; -1: there is none
    int     scale;
    int     bit_depth;
    int     input_ended[2]; ///< this input has given its last frame
    int     ended[2];  ///< the engine was told that this stream has ended
    int     drained;   ///< the engine has no more pictures
    int     closed;    ///< nobody wants more output
    int     status;    ///< first error an input ended with
    int64_t last_pts[2];

    /* What FFmpeg knows about the pictures inside the engine, in order of time:
     * references of HR frames, properties alone of LR frames. */
    AVFifo  *known[2];
    int      seeking;     ///< the HR frame that output begins from is not known yet
    AVFrame *seek_frame;  ///< the last HR frame at or before start_time so far
    int64_t  skip_before; ///< LR frames before it are of no use
    AVFrame *last_hr;  ///< the HR frame that came out last, for what LR frames lack

    AVRational rate;   ///< nominal frame rate, 0/1 while not known
    int     rate_given;
    AVFifo *held;      ///< output waiting for the rate to be settled
    int64_t duration;  ///< of one picture in output time base units
    int64_t first_out, prev_out;
    int64_t end_pts;   ///< end of the last output picture

    int64_t count[TDS_STATUS_REFINED + 1]; ///< output by tds_status
    int64_t nb_discarded, nb_missing, nb_gaps;
    int     warned_rate, warned_pairing;

    AVBufferRef *hw_frames; ///< output pool for CUDA frames
    int     cuda_index;
} TDSEnhanceContext;

#define OFFSET(x) offsetof(TDSEnhanceContext, x)
#define FLAGS (AV_OPT_FLAG_FILTERING_PARAM | AV_OPT_FLAG_VIDEO_PARAM)
#define TFLAGS (FLAGS | AV_OPT_FLAG_RUNTIME_PARAM)

static const AVOption tds_enhance_options[] = {
    { "model",        "model: a file, or a name looked up in TDS_MODEL_PATH and the installed models (default: the one installed for this size ratio)", OFFSET(model), AV_OPT_TYPE_STRING, { .str = NULL }, 0, 0, FLAGS },
    { "model_sha256", "SHA-256 the model file must have, 64 hex digits",   OFFSET(model_sha256), AV_OPT_TYPE_STRING, { .str = NULL }, 0, 0, FLAGS },
    { "device",       "where the model runs: auto, cpu, cuda or cudaN",   OFFSET(device), AV_OPT_TYPE_STRING, { .str = "auto" }, 0, 0, FLAGS },
    { "backend",      "what rebuilds the LR frames",                       OFFSET(backend), AV_OPT_TYPE_INT, { .i64 = BACKEND_AUTO }, 0, BACKEND_NB - 1, FLAGS, .unit = "backend" },
    { "auto",         "torchscript when there is a model, else bicubic",   0, AV_OPT_TYPE_CONST, { .i64 = BACKEND_AUTO },        .flags = FLAGS, .unit = "backend" },
    { "bicubic",      "up-sample, no model",                               0, AV_OPT_TYPE_CONST, { .i64 = BACKEND_BICUBIC },     .flags = FLAGS, .unit = "backend" },
    { "torchscript",  "run a TorchScript model",                           0, AV_OPT_TYPE_CONST, { .i64 = BACKEND_TORCHSCRIPT }, .flags = FLAGS, .unit = "backend" },
    { "precision",    "arithmetic of the model",                           OFFSET(precision), AV_OPT_TYPE_INT, { .i64 = PREC_AUTO }, 0, PREC_NB - 1, FLAGS, .unit = "precision" },
    { "auto",         "float32 on the CPU, what the model asks for on CUDA", 0, AV_OPT_TYPE_CONST, { .i64 = PREC_AUTO },         .flags = FLAGS, .unit = "precision" },
    { "float32",      NULL,                                                0, AV_OPT_TYPE_CONST, { .i64 = PREC_FLOAT32 },        .flags = FLAGS, .unit = "precision" },
    { "float16",      NULL,                                                0, AV_OPT_TYPE_CONST, { .i64 = PREC_FLOAT16 },        .flags = FLAGS, .unit = "precision" },
    { "bfloat16",     NULL,                                                0, AV_OPT_TYPE_CONST, { .i64 = PREC_BFLOAT16 },       .flags = FLAGS, .unit = "precision" },
    { "rate",         "nominal frame rate of the output, as 25 or 30000/1001; auto: the container's, else from the time stamps", OFFSET(rate_str), AV_OPT_TYPE_STRING, { .str = "auto" }, 0, 0, FLAGS },
    { "on_missing",   "LR frames that lack the HR frame before or after them", OFFSET(on_missing), AV_OPT_TYPE_INT, { .i64 = ON_MISSING_ENHANCE }, 0, ON_MISSING_NB - 1, TFLAGS, .unit = "on_missing" },
    { "enhance",      "rebuild them from the HR frame there is, or up-sample", 0, AV_OPT_TYPE_CONST, { .i64 = ON_MISSING_ENHANCE }, .flags = TFLAGS, .unit = "on_missing" },
    { "drop",         "do not output them",                                0, AV_OPT_TYPE_CONST, { .i64 = ON_MISSING_DROP },     .flags = TFLAGS, .unit = "on_missing" },
    { "error",        "stop with an error",                                0, AV_OPT_TYPE_CONST, { .i64 = ON_MISSING_ERROR },    .flags = TFLAGS, .unit = "on_missing" },
    { "fallback",     "when no model can be loaded",                       OFFSET(fallback), AV_OPT_TYPE_INT, { .i64 = FALLBACK_AUTO }, 0, FALLBACK_NB - 1, FLAGS, .unit = "fallback" },
    { "auto",         "error if a model, a device or torchscript was asked for, else bicubic", 0, AV_OPT_TYPE_CONST, { .i64 = FALLBACK_AUTO }, .flags = FLAGS, .unit = "fallback" },
    { "bicubic",      "warn and up-sample",                                0, AV_OPT_TYPE_CONST, { .i64 = FALLBACK_BICUBIC },    .flags = FLAGS, .unit = "fallback" },
    { "error",        "stop with an error",                                0, AV_OPT_TYPE_CONST, { .i64 = FALLBACK_ERROR },      .flags = FLAGS, .unit = "fallback" },
    { "hr",           "HR frames of a pair",                               OFFSET(hr), AV_OPT_TYPE_INT, { .i64 = HR_AUTO }, 0, HR_NB - 1, FLAGS, .unit = "hr" },
    { "auto",         "as the container's tag says, else passed",          0, AV_OPT_TYPE_CONST, { .i64 = HR_AUTO },             .flags = FLAGS, .unit = "hr" },
    { "pass",         "passed as they came",                               0, AV_OPT_TYPE_CONST, { .i64 = HR_PASS },             .flags = FLAGS, .unit = "hr" },
    { "refine",       "enhanced too, by the model of the same name for k = 1", 0, AV_OPT_TYPE_CONST, { .i64 = HR_REFINE },       .flags = FLAGS, .unit = "hr" },
    { "strength",     "of the model's changes, 0 to 1; below 0: as the container's tag says, else 1", OFFSET(strength), AV_OPT_TYPE_FLOAT, { .dbl = -1 }, -1, 1, FLAGS },
    { "causal",       "make each frame from earlier ones alone, without delay", OFFSET(causal), AV_OPT_TYPE_BOOL, { .i64 = 0 }, 0, 1, FLAGS },
    { "hr_qp",        "QP of the HR stream, or the one there is, for models that use it; -1: as the tag tells", OFFSET(hr_qp), AV_OPT_TYPE_INT, { .i64 = -1 }, -1, 63, FLAGS },
    { "lr_qp",        "QP of the LR stream, likewise",                     OFFSET(lr_qp), AV_OPT_TYPE_INT, { .i64 = -1 }, -1, 63, FLAGS },
    { "max_batch",    "frames given to the model at once; fewer need less memory", OFFSET(max_batch), AV_OPT_TYPE_INT, { .i64 = 4 }, 1, TDS_MAX_PENDING, FLAGS },
    { "start_time",   "output begins here; earlier frames serve as references only", OFFSET(start_time), AV_OPT_TYPE_DURATION, { .i64 = INT64_MIN }, INT64_MIN, INT64_MAX, FLAGS },
    { "duration",     "length of the output; later frames serve as references only; 0: all", OFFSET(max_duration), AV_OPT_TYPE_DURATION, { .i64 = 0 }, 0, INT64_MAX, FLAGS },
    { "inputs",       "2: HR and LR, in any order; 1: any video, each frame of which is enhanced", OFFSET(nb_inputs), AV_OPT_TYPE_INT, { .i64 = 2 }, 1, 2, FLAGS },
    { "container",    "the JSON of the container's tag 'tds', for what no option gives; none: without one (default: that of the file, in the patched ffmpeg program)", OFFSET(container), AV_OPT_TYPE_STRING, { .str = NULL }, 0, 0, FLAGS },
    { NULL }
};

AVFILTER_DEFINE_CLASS(tds_enhance);

/* Size-independent side data that describes the whole video: an LR frame without it gets that of
 * the HR frame before it. */
static const enum AVFrameSideDataType global_side_data[] = {
    AV_FRAME_DATA_MASTERING_DISPLAY_METADATA,
    AV_FRAME_DATA_CONTENT_LIGHT_LEVEL,
    AV_FRAME_DATA_ICC_PROFILE,
    AV_FRAME_DATA_AMBIENT_VIEWING_ENVIRONMENT,
    AV_FRAME_DATA_DISPLAYMATRIX,
    AV_FRAME_DATA_STEREO3D,
};

/* Side data in coordinates of the small picture: wrong on the large one. */
static const enum AVFrameSideDataType size_side_data[] = {
    AV_FRAME_DATA_PANSCAN,
    AV_FRAME_DATA_MOTION_VECTORS,
    AV_FRAME_DATA_SPHERICAL,
    AV_FRAME_DATA_REGIONS_OF_INTEREST,
    AV_FRAME_DATA_VIDEO_ENC_PARAMS,
    AV_FRAME_DATA_DETECTION_BBOXES,
    AV_FRAME_DATA_VIDEO_HINT,
};

static int tds_averror(tds_result result)
{
    switch (result) {
    case TDS_ERROR_INVALID:     return AVERROR(EINVAL);
    case TDS_ERROR_MEMORY:      return AVERROR(ENOMEM);
    case TDS_ERROR_UNSUPPORTED: return AVERROR(ENOSYS);
    case TDS_ERROR_MODEL:       return AVERROR_INVALIDDATA;
    case TDS_ERROR_DEVICE:      return AVERROR(ENODEV);
    case TDS_ERROR_ORDER:       return AVERROR_INVALIDDATA;
    default:                    return AVERROR_EXTERNAL;
    }
}

static void log_callback(void *context, tds_log_level level, const char *message)
{
    static const int av_level[] = { AV_LOG_ERROR, AV_LOG_WARNING, AV_LOG_VERBOSE, AV_LOG_DEBUG };

    av_log(context, level < FF_ARRAY_ELEMS(av_level) ? av_level[level] : AV_LOG_DEBUG,
           "%s\n", message);
}

/* ------------------------------------------------------------- CUDA frames -- */

static int is_cuda(const TDSEnhanceContext *s)
{
    return !!s->hw_frames;
}

#if CONFIG_CUDA
static AVCUDADeviceContext *cuda_device(const AVBufferRef *frames_ref)
{
    const AVHWFramesContext *frames = (const AVHWFramesContext *)frames_ref->data;

    return frames->device_ctx->hwctx;
}
#endif

/* Makes the device's context the current one of this thread, as the engine expects it. */
static int cuda_push(AVFilterContext *ctx)
{
#if CONFIG_CUDA
    TDSEnhanceContext *s = ctx->priv;

    if (is_cuda(s)) {
        AVCUDADeviceContext *hwctx = cuda_device(s->hw_frames);
        CudaFunctions *cu = hwctx->internal->cuda_dl;

        return FF_CUDA_CHECK_DL(ctx, cu, cu->cuCtxPushCurrent(hwctx->cuda_ctx));
    }
#endif
    return 0;
}

static void cuda_pop(AVFilterContext *ctx)
{
#if CONFIG_CUDA
    TDSEnhanceContext *s = ctx->priv;

    if (is_cuda(s)) {
        AVCUDADeviceContext *hwctx = cuda_device(s->hw_frames);
        CudaFunctions *cu = hwctx->internal->cuda_dl;
        CUcontext dummy;

        (void)FF_CUDA_CHECK_DL(ctx, cu, cu->cuCtxPopCurrent(&dummy));
    }
#endif
}

/* Reads the sample format behind CUDA frames and prepares a pool for the output. */
static av_cold int cuda_configure(AVFilterContext *ctx, AVFilterLink *outlink,
                                  enum AVPixelFormat *sw_format)
{
#if CONFIG_CUDA
    TDSEnhanceContext *s = ctx->priv;
    AVFilterLink *hr = ctx->inputs[s->pad_of[TDS_HR]];
    AVBufferRef *hr_ref = ff_filter_link(hr)->hw_frames_ctx;
    AVHWFramesContext *hr_frames, *out_frames;
    AVCUDADeviceContext *hwctx;
    int ret;

    if (!hr_ref) {
        av_log(ctx, AV_LOG_ERROR, "The HR input has CUDA frames without a frames context.\n");
        return AVERROR(EINVAL);
    }
    hr_frames = (AVHWFramesContext *)hr_ref->data;
    if (s->pad_of[TDS_LR] >= 0) {
        AVBufferRef *lr_ref = ff_filter_link(ctx->inputs[s->pad_of[TDS_LR]])->hw_frames_ctx;
        AVHWFramesContext *lr_frames;

        if (!lr_ref) {
            av_log(ctx, AV_LOG_ERROR, "The LR input has CUDA frames without a frames context.\n");
            return AVERROR(EINVAL);
        }
        lr_frames = (AVHWFramesContext *)lr_ref->data;
        if (cuda_device(lr_ref)->cuda_ctx != cuda_device(hr_ref)->cuda_ctx) {
            av_log(ctx, AV_LOG_ERROR, "The HR and the LR frames are on different CUDA devices; "
                   "decode or upload both with the same -init_hw_device.\n");
            return AVERROR(EINVAL);
        }
        if (lr_frames->sw_format != hr_frames->sw_format) {
            av_log(ctx, AV_LOG_ERROR, "The HR frames are %s and the LR frames %s; "
                   "both must have one sample format.\n",
                   av_get_pix_fmt_name(hr_frames->sw_format),
                   av_get_pix_fmt_name(lr_frames->sw_format));
            return AVERROR(EINVAL);
        }
    }
    *sw_format = hr_frames->sw_format;

    hwctx         = cuda_device(hr_ref);
    s->cuda_index = hwctx->internal->cuda_device;
    if (!(hwctx->internal->flags & AV_CUDA_USE_PRIMARY_CONTEXT))
        av_log(ctx, AV_LOG_WARNING, "The CUDA frames are not in the device's primary context, "
               "which the model runs in; if this fails, give "
               "-init_hw_device cuda=cu:%d,primary_ctx=1.\n", s->cuda_index);

    s->hw_frames = av_hwframe_ctx_alloc(hr_frames->device_ref);
    if (!s->hw_frames)
        return AVERROR(ENOMEM);
    out_frames            = (AVHWFramesContext *)s->hw_frames->data;
    out_frames->format    = AV_PIX_FMT_CUDA;
    out_frames->sw_format = hr_frames->sw_format;
    out_frames->width     = hr->w;
    out_frames->height    = hr->h;
    ret = av_hwframe_ctx_init(s->hw_frames);
    if (ret < 0) {
        av_log(ctx, AV_LOG_ERROR, "No CUDA frames for the output: %s\n", av_err2str(ret));
        return ret;
    }
    ff_filter_link(outlink)->hw_frames_ctx = av_buffer_ref(s->hw_frames);
    return ff_filter_link(outlink)->hw_frames_ctx ? 0 : AVERROR(ENOMEM);
#else
    av_log(ctx, AV_LOG_ERROR, "This FFmpeg was built without CUDA; put hwdownload before "
           "tds_enhance.\n");
    return AVERROR(ENOSYS);
#endif
}

/* --------------------------------------------------- frames and tds_picture -- */

static void release_frame(void *owner)
{
    AVFrame *frame = owner;

    av_frame_free(&frame);
}

static tds_chroma chroma_of(enum AVPixelFormat format)
{
    switch (format) {
    case AV_PIX_FMT_YUV422P:
    case AV_PIX_FMT_YUVJ422P:
    case AV_PIX_FMT_YUV422P10LE:
        return TDS_CHROMA_422;
    case AV_PIX_FMT_YUV444P:
    case AV_PIX_FMT_YUVJ444P:
    case AV_PIX_FMT_YUV444P10LE:
        return TDS_CHROMA_444;
    default:
        return TDS_CHROMA_420;
    }
}

static void describe_picture(const TDSEnhanceContext *s, tds_picture *picture,
                             const AVFrame *frame, enum AVPixelFormat sw_format)
{
    const int semiplanar = sw_format == AV_PIX_FMT_NV12 || sw_format == AV_PIX_FMT_P010LE;

    for (int i = 0; i < (semiplanar ? 2 : 3); i++) {
        picture->data[i]   = frame->data[i];
        picture->stride[i] = frame->linesize[i];
    }
    picture->width     = frame->width;
    picture->height    = frame->height;
    picture->bit_depth = s->bit_depth;
    picture->layout    = semiplanar ? TDS_LAYOUT_SEMIPLANAR : TDS_LAYOUT_PLANAR;
    picture->chroma    = chroma_of(sw_format);
    if (is_cuda(s)) {
#if CONFIG_CUDA
        picture->memory       = TDS_MEMORY_CUDA;
        picture->device_index = s->cuda_index;
        picture->cuda_stream  = cuda_device(s->hw_frames)->stream;
#endif
    }
}

static enum AVPixelFormat sample_format(const AVFrame *frame)
{
    if (frame->hw_frames_ctx)
        return ((const AVHWFramesContext *)frame->hw_frames_ctx->data)->sw_format;
    return frame->format;
}

/* The engine's output samples are an AVFrame's from the start, so that nothing is copied. */
static tds_result allocate_picture(void *context, tds_picture *picture)
{
    AVFilterContext *ctx   = context;
    TDSEnhanceContext *s   = ctx->priv;
    AVFilterLink *outlink  = ctx->outputs[0];
    AVFrame *frame;

    if (is_cuda(s)) {
        frame = av_frame_alloc();
        if (frame && av_hwframe_get_buffer(s->hw_frames, frame, 0) < 0)
            av_frame_free(&frame);
    } else
        frame = ff_get_video_buffer(outlink, picture->width, picture->height);
    if (!frame)
        return TDS_ERROR_MEMORY;

    describe_picture(s, picture, frame, sample_format(frame));
    picture->owner   = frame;
    picture->release = release_frame;
    return TDS_OK;
}

static void free_known(AVFifo *fifo)
{
    AVFrame *frame;

    while (fifo && av_fifo_read(fifo, &frame, 1) >= 0)
        av_frame_free(&frame);
}

/* Takes what is known about the picture of one stream at a time, and forgets what is older (LR
 * pictures that the engine has dropped). NULL when there is none. */
static AVFrame *take_known(TDSEnhanceContext *s, tds_role role, int64_t pts)
{
    AVFrame *frame;

    while (av_fifo_peek(s->known[role], &frame, 1, 0) >= 0 && frame->pts <= pts) {
        av_fifo_drain2(s->known[role], 1);
        if (frame->pts == pts)
            return frame;
        av_frame_free(&frame);
    }
    return NULL;
}

/* ---------------------------------------------------------------- the rate -- */

/* Filters that make another rate of the one before them, and an unknown one of an unknown one. */
static const char *const rate_changers[] = {
    "bwdif", "bwdif_cuda", "bwdif_vulkan", "decimate", "deinterlace_d3d12", "deinterlace_qsv",
    "deinterlace_vaapi", "dejudder", "detelecine", "estdif", "framestep", "fsync", "interlace",
    "interlace_vulkan", "interleave", "nnedi", "separatefields", "stereo3d", "telecine", "tile",
    "tinterlace", "untile", "vpp_qsv", "w3fdif", "weave", "yadif", "yadif_cuda",
    "yadif_videotoolbox",
};

/* Tells links that were configured with an unknown rate what it is. */
static void announce_rate(AVFilterLink *link, AVRational rate)
{
    FilterLink *l = ff_filter_link(link);
    AVFilterContext *next = link->dst;

    if (l->frame_rate.num && l->frame_rate.den)
        return; /* known, or made by a filter of its own mind */
    l->frame_rate = rate;
    for (int i = 0; i < FF_ARRAY_ELEMS(rate_changers); i++)
        if (!strcmp(next->filter->name, rate_changers[i]))
            return;
    for (unsigned i = 0; i < next->nb_outputs; i++)
        if (next->outputs[i]->type == AVMEDIA_TYPE_VIDEO)
            announce_rate(next->outputs[i], rate);
}

static void use_rate(AVFilterContext *ctx, AVRational rate)
{
    TDSEnhanceContext *s = ctx->priv;

    s->rate     = rate;
    s->duration = FFMAX(1, av_rescale_q(1, av_inv_q(rate), ctx->outputs[0]->time_base));
}

/* Whether one video's own rate may be that of pictures at these times. It is not that of a video
 * with gaps, as HR alone is. */
static int fits_times(const int64_t *times, size_t nb, AVRational tb, AVRational rate)
{
    int64_t step = INT64_MAX;
    double frames;

    for (size_t i = 1; i < nb; i++)
        step = FFMIN(step, times[i] - times[i - 1]);
    frames = nb > 1 ? step * av_q2d(tb) * av_q2d(rate) : 1;
    return rate.num > 0 && rate.den > 0 && frames > 0.75 && frames < 1.25;
}

/* Settles the rate by the times of the pictures held back for it. */
static void settle_rate(AVFilterContext *ctx)
{
    TDSEnhanceContext *s = ctx->priv;
    const AVRational tb = ctx->outputs[0]->time_base;
    int64_t times[TDS_RATE_PICTURES];
    size_t nb = 0;
    AVFrame *frame;
    tds_rational found = { 25, 1 };
    AVRational rate;

    while (nb < TDS_RATE_PICTURES && av_fifo_peek(s->held, &frame, 1, nb) >= 0)
        times[nb++] = frame->pts;
    tds_frame_rate(times, nb, (tds_rational){ tb.num, tb.den }, &found);
    rate = (AVRational){ found.num, found.den };
    if (s->pad_of[TDS_LR] < 0 &&
        fits_times(times, nb, tb, ff_filter_link(ctx->inputs[0])->frame_rate))
        rate = ff_filter_link(ctx->inputs[0])->frame_rate;
    else
        av_log(ctx, AV_LOG_VERBOSE, "Frame rate by the time stamps: %d/%d.\n", rate.num, rate.den);
    use_rate(ctx, rate);
    announce_rate(ctx->outputs[0], rate);
}

/* Watches the output times: a rate that is too low makes programs drop frames, and times that
 * belong to two videos show as pictures that collide and gaps that follow. */
static int watch_times(AVFilterContext *ctx, int64_t pts)
{
    TDSEnhanceContext *s = ctx->priv;
    const AVRational tb  = ctx->outputs[0]->time_base;
    const int64_t before = s->prev_out, step = pts - before;
    const double seconds = step * av_q2d(tb);
    const int gap = step > s->duration + s->duration / 2;
    tds_info info;

    s->prev_out = pts;
    if (before == AV_NOPTS_VALUE)
        return 0;
    if (s->rate_given && !s->warned_rate && step + 1 < s->duration * 0.75) {
        s->warned_rate = 1;
        if (strcmp(s->rate_str, "auto"))
            av_log(ctx, AV_LOG_WARNING, "The rate is given as %d/%d, but frames are only %g s "
                   "apart: a program that follows the rate will drop some. Give rate=auto or the "
                   "right rate.\n", s->rate.num, s->rate.den, seconds);
        else
            av_log(ctx, AV_LOG_WARNING, "Frames are only %g s apart, and the container says %d/%d "
                   "frames a second. Are the two videos parts of one TDS video? With two input "
                   "files give -copyts; if the source's rate varies, give rate=, or a program "
                   "that follows the rate will drop frames.\n",
                   seconds, s->rate.num, s->rate.den);
    }
    if (gap && !s->warned_pairing && tds_session_info(s->session, &info) == TDS_OK &&
        info.dropped_lr > 1 &&
        2 * info.dropped_lr >= s->count[TDS_STATUS_PASSED] + s->count[TDS_STATUS_REFINED]) {
        s->warned_pairing = 1;
        av_log(ctx, AV_LOG_WARNING, "The times of the two videos do not fit together: "
               "%"PRId64" LR frames have the time of an HR frame, and at %g s there is a gap of "
               "%g s. With two input files give -copyts; else these are not parts of one TDS "
               "video.\n", info.dropped_lr, before * av_q2d(tb), seconds);
    }
    if (gap && s->pad_of[TDS_LR] >= 0 && s->ended[TDS_LR] && before >= s->last_pts[TDS_LR]) {
        if (s->on_missing == ON_MISSING_ERROR) {
            av_log(ctx, AV_LOG_ERROR, "The LR video has ended, and after %g s frames are missing; "
                   "on_missing=enhance goes on without.\n", before * av_q2d(tb));
            return AVERROR_INVALIDDATA;
        }
        s->nb_gaps++;
    }
    return 0;
}

/* ---------------------------------------------------------------- pictures -- */

/* Takes a frame of an input: to tds_times, and to those that wait for what it says. */
static int take_frame(AVFilterContext *ctx, tds_role role, AVFrame *frame)
{
    TDSEnhanceContext *s = ctx->priv;
    AVFilterLink *inlink = ctx->inputs[s->pad_of[role]];
    const char *name = s->pad_of[TDS_LR] < 0 ? "input" : role == TDS_HR ? "HR" : "LR";
    tds_result result;
    int ret = 0;

    if (frame->width != inlink->w || frame->height != inlink->h ||
        frame->format != inlink->format) {
        av_log(ctx, AV_LOG_ERROR, "The %s video changes from %dx%d %s to %dx%d %s in mid-stream; "
               "one TDS video has one size. Decode the parts one by one.\n", name,
               inlink->w, inlink->h, av_get_pix_fmt_name(inlink->format),
               frame->width, frame->height, av_get_pix_fmt_name(frame->format));
        ret = AVERROR(EINVAL);
        goto end;
    }
    if (frame->pts == AV_NOPTS_VALUE) {
        av_log(ctx, AV_LOG_ERROR, "An %s picture has no time stamp, so its place is not known. "
               "Raw streams have none: let tds enhance read those.\n", name);
        ret = AVERROR_INVALIDDATA;
        goto end;
    }
    frame->pts       = av_rescale_q(frame->pts, inlink->time_base, ctx->outputs[0]->time_base);
    frame->time_base = ctx->outputs[0]->time_base;
    if (role == TDS_LR && frame->pts < s->skip_before)
        goto end;
    if (s->last_pts[role] != AV_NOPTS_VALUE && frame->pts <= s->last_pts[role]) {
        av_log(ctx, s->on_missing == ON_MISSING_ERROR ? AV_LOG_ERROR : AV_LOG_WARNING,
               "An %s picture at %s s comes after one at %s s%s.\n", name,
               av_ts2timestr(frame->pts, &frame->time_base),
               av_ts2timestr(s->last_pts[role], &frame->time_base),
               s->on_missing == ON_MISSING_ERROR ? "" : " and is discarded");
        s->nb_discarded++;
        ret = s->on_missing == ON_MISSING_ERROR ? AVERROR_INVALIDDATA : 0;
        goto end;
    }
    result = tds_times_push(s->times, role, frame->pts);
    if (result < 0) {
        av_log(ctx, AV_LOG_ERROR, "%s\n", tds_last_error());
        ret = tds_averror(result);
        goto end;
    }
    s->last_pts[role] = frame->pts;
    ret = av_fifo_write(s->waiting[role], &frame, 1);
    if (ret >= 0)
        return ret;

end:
    av_frame_free(&frame);
    return ret;
}

/* Sends the frame that an event is of. */
static int send_frame(AVFilterContext *ctx, tds_role role, const tds_event *event)
{
    TDSEnhanceContext *s = ctx->priv;
    AVFrame *frame = NULL, *known = NULL;
    tds_picture picture;
    tds_result result;
    int ret;

    ret = av_fifo_read(s->waiting[role], &frame, 1);
    if (ret < 0)
        return AVERROR_BUG;
    frame->pts = event->pts;

    /* HR frames come out as they are; of LR frames only the properties do. */
    known = role == TDS_HR ? av_frame_clone(frame) : av_frame_alloc();
    if (!known) {
        ret = AVERROR(ENOMEM);
        goto end;
    }
    if (role == TDS_LR && (ret = av_frame_copy_props(known, frame)) < 0)
        goto end;

    tds_picture_init(&picture);
    describe_picture(s, &picture, frame, sample_format(frame));
    picture.pts     = frame->pts;
    picture.corrupt = !!(frame->flags & AV_FRAME_FLAG_CORRUPT) || frame->decode_error_flags;
    if (s->use_strengths)
        picture.strength = event->strength;
    picture.owner   = frame;
    picture.release = release_frame;
    result = tds_session_send(s->session, role, &picture);
    if (result != TDS_OK) {
        /* It said that it wants this stream, so "again" is a fault too. */
        av_log(ctx, AV_LOG_ERROR, "%s\n",
               result < 0 ? tds_last_error() : "The engine took no picture though it wants one.");
        ret = result < 0 ? tds_averror(result) : AVERROR_BUG;
        goto end;
    }
    ret = av_fifo_write(s->known[role], &known, 1);
    if (ret < 0)
        av_frame_free(&known);
    return ret;

end:
    av_frame_free(&known);
    av_frame_free(&frame);
    return ret;
}

/* Says what the times of the inputs have shown, once. */
static void say_times(AVFilterContext *ctx)
{
    TDSEnhanceContext *s = ctx->priv;
    const char *notices  = tds_times_notices(s->times);
    const size_t before  = s->said ? strlen(s->said) : 0;

    if (!strcmp(notices, s->said ? s->said : ""))
        return;
    for (const char *line = notices + before; *line; line = strchr(line, '\n') + 1)
        av_log(ctx, AV_LOG_WARNING, "Of the video: %.*s.\n", (int)strcspn(line, "\n"), line);
    av_freep(&s->said);
    s->said = av_strdup(notices);
}

/* Output begins at start_time, input at a random access point before it. Groups that lie in between
 * as a whole are not worth the model's time: sends on only from the last HR frame that is not
 * after the start. Takes the frame; NULL at the end of the HR stream. */
static int seek_hr(AVFilterContext *ctx, AVFrame *frame)
{
    TDSEnhanceContext *s = ctx->priv;
    AVFilterLink *inlink = ctx->inputs[s->pad_of[TDS_HR]];
    AVFrame *first;
    int ret = 0;

    if (frame && frame->pts != AV_NOPTS_VALUE &&
        av_compare_ts(frame->pts, inlink->time_base, s->start, AV_TIME_BASE_Q) <= 0) {
        av_frame_free(&s->seek_frame);
        s->seek_frame = frame;
        return 0;
    }
    s->seeking    = 0;
    first         = s->seek_frame;
    s->seek_frame = NULL;
    if (first) {
        s->skip_before = av_rescale_q(first->pts, inlink->time_base,
                                      ctx->outputs[0]->time_base);
        ret = take_frame(ctx, TDS_HR, first);
    }
    if (ret < 0)
        av_frame_free(&frame);
    return ret < 0 || !frame ? ret : take_frame(ctx, TDS_HR, frame);
}

/* LR frames keep coming while the HR stream is looked through, and must not pile up: those before
 * the last HR frame so far are of no use. */
static int seek_lr(AVFilterContext *ctx)
{
    TDSEnhanceContext *s = ctx->priv;
    AVFilterLink *inlink = ctx->inputs[s->pad_of[TDS_LR]];

    while (s->seek_frame && ff_inlink_queued_frames(inlink)) {
        AVFrame *frame = ff_inlink_peek_frame(inlink, 0);
        int ret;

        if (frame->pts == AV_NOPTS_VALUE ||
            av_compare_ts(frame->pts, inlink->time_base, s->seek_frame->pts,
                          ctx->inputs[s->pad_of[TDS_HR]]->time_base) >= 0)
            break;
        ret = ff_inlink_consume_frame(inlink, &frame);
        if (ret < 0)
            return ret;
        av_frame_free(&frame);
    }
    return 0;
}

/* Gives an LR frame's rebuilt picture what FFmpeg knows about the LR frame, and, where that says
 * nothing, what it knows about the HR frame before. */
static int copy_lr_props(AVFilterContext *ctx, AVFrame *out, const AVFrame *lr)
{
    TDSEnhanceContext *s = ctx->priv;
    const AVFrame *hr = s->last_hr;
    int ret;

    if (!hr) /* a video that starts with LR pictures: the HR frame after them */
        av_fifo_peek(s->known[TDS_HR], &hr, 1, 0);

    ret = av_frame_copy_props(out, lr);
    if (ret < 0)
        return ret;
    out->crop_top = out->crop_bottom = out->crop_left = out->crop_right = 0;
    out->pict_type = AV_PICTURE_TYPE_NONE;
    out->flags &= ~AV_FRAME_FLAG_KEY;
    for (int i = 0; i < FF_ARRAY_ELEMS(size_side_data); i++)
        av_frame_remove_side_data(out, size_side_data[i]);
    if (!out->sample_aspect_ratio.num)
        out->sample_aspect_ratio = hr && hr->sample_aspect_ratio.num
                                 ? hr->sample_aspect_ratio
                                 : ctx->outputs[0]->sample_aspect_ratio;
    if (!hr)
        return 0;
    if (out->color_range == AVCOL_RANGE_UNSPECIFIED)
        out->color_range = hr->color_range;
    if (out->color_primaries == AVCOL_PRI_UNSPECIFIED)
        out->color_primaries = hr->color_primaries;
    if (out->color_trc == AVCOL_TRC_UNSPECIFIED)
        out->color_trc = hr->color_trc;
    if (out->colorspace == AVCOL_SPC_UNSPECIFIED)
        out->colorspace = hr->colorspace;
    if (out->chroma_location == AVCHROMA_LOC_UNSPECIFIED)
        out->chroma_location = hr->chroma_location;
    for (int i = 0; i < FF_ARRAY_ELEMS(global_side_data); i++) {
        const AVFrameSideData *sd = av_frame_get_side_data(hr, global_side_data[i]);

        if (sd && !av_frame_get_side_data(out, sd->type)) {
            AVBufferRef *ref = av_buffer_ref(sd->buf);

            if (!ref || !av_frame_new_side_data_from_buf(out, sd->type, ref)) {
                av_buffer_unref(&ref);
                return AVERROR(ENOMEM);
            }
        }
    }
    return 0;
}

/* Turns a picture from the engine into an output frame. *out stays NULL when the picture is not
 * to be output. Ends the picture in every case. */
static int take_picture(AVFilterContext *ctx, tds_picture *picture, AVFrame **out)
{
    TDSEnhanceContext *s  = ctx->priv;
    AVFilterLink *outlink = ctx->outputs[0];
    const unsigned missing = picture->reason & (TDS_REASON_NO_FIRST | TDS_REASON_NO_LAST);
    AVFrame *hr = take_known(s, TDS_HR, picture->pts);
    AVFrame *lr = take_known(s, TDS_LR, picture->pts);
    AVFrame *frame = NULL;
    char reason[128];
    int ret = 0;

    *out = NULL;
    tds_reason_names(picture->reason, reason, sizeof(reason));

    if (picture->status == TDS_STATUS_PASSED && hr) {
        FFSWAP(AVFrame *, frame, hr);
        /* What follows may compare a frame's context with the link's, as hwdownload does. */
        if (is_cuda(s) && (ret = av_buffer_replace(&frame->hw_frames_ctx, s->hw_frames)) < 0)
            goto end;
    } else if (picture->release == release_frame) {
        frame = picture->owner; /* from allocate_picture() */
        picture->owner   = NULL;
        picture->release = NULL;
    } else { /* one that was sent, again */
        frame = av_frame_clone(picture->owner);
        if (!frame) {
            ret = AVERROR(ENOMEM);
            goto end;
        }
    }
    if (picture->status == TDS_STATUS_REFINED && hr)
        ret = av_frame_copy_props(frame, hr);
    else if (picture->status == TDS_STATUS_REPEATED && !lr && s->last_hr)
        ret = copy_lr_props(ctx, frame, s->last_hr);
    else if (picture->status != TDS_STATUS_PASSED && lr)
        ret = copy_lr_props(ctx, frame, lr);
    if (ret < 0)
        goto end;
    if (picture->status == TDS_STATUS_PASSED || picture->status == TDS_STATUS_REFINED) {
        av_frame_free(&s->last_hr);
        s->last_hr = av_frame_alloc();
        if (!s->last_hr || (ret = av_frame_copy_props(s->last_hr, frame)) < 0) {
            ret = AVERROR(ENOMEM);
            goto end;
        }
    }

    if (s->start != INT64_MIN &&
        av_compare_ts(picture->pts, outlink->time_base, s->start, AV_TIME_BASE_Q) < 0) {
        goto end;
    }
    if (s->first_out == AV_NOPTS_VALUE)
        s->first_out = picture->pts;
    if (s->length > 0 && av_compare_ts(picture->pts - s->first_out, outlink->time_base,
                                       s->length, AV_TIME_BASE_Q) >= 0) {
        s->drained = 1;
        goto end;
    }

    if (picture->status == TDS_STATUS_REPEATED && s->on_missing != ON_MISSING_ENHANCE) {
        if (s->on_missing == ON_MISSING_DROP)
            goto end;
        av_log(ctx, AV_LOG_ERROR, "The picture at %s s is missing; on_missing=enhance shows "
               "another in its place.\n", av_ts2timestr(picture->pts, &outlink->time_base));
        ret = AVERROR_INVALIDDATA;
        goto end;
    }
    if (missing && s->pad_of[TDS_LR] >= 0 && (picture->status == TDS_STATUS_ENHANCED ||
                                              picture->status == TDS_STATUS_UPSAMPLED)) {
        const char *time = av_ts2timestr(picture->pts, &outlink->time_base);

        s->nb_missing++;
        if (s->on_missing == ON_MISSING_ERROR) {
            av_log(ctx, AV_LOG_ERROR, "The LR picture at %s s has no HR picture %s it; "
                   "on_missing=enhance goes on without.\n", time,
                   missing & TDS_REASON_NO_FIRST ? "before" : "after");
            ret = AVERROR_INVALIDDATA;
            goto end;
        }
        if (s->on_missing == ON_MISSING_DROP)
            goto end;
    }
    frame->pts       = picture->pts;
    frame->time_base = outlink->time_base;
    if ((ret = av_dict_set(&frame->metadata, "lavfi.tds.status",
                           tds_status_name(picture->status), 0)) < 0 ||
        (ret = av_dict_set(&frame->metadata, "lavfi.tds.reason",
                           reason[0] ? reason : "none", 0)) < 0)
        goto end;
    if (picture->status < FF_ARRAY_ELEMS(s->count))
        s->count[picture->status]++;
    FFSWAP(AVFrame *, *out, frame);

end:
    av_frame_free(&frame);
    av_frame_free(&hr);
    av_frame_free(&lr);
    tds_picture_release(picture);
    return ret;
}

static int output_frame(AVFilterContext *ctx, AVFrame *frame)
{
    TDSEnhanceContext *s = ctx->priv;
    int ret;

    /* The decoder's durations are those of a track with gaps. */
    frame->duration = s->duration;
    ret = watch_times(ctx, frame->pts);
    if (ret < 0) {
        av_frame_free(&frame);
        return ret;
    }
    s->end_pts = frame->pts + s->duration;
    return ff_filter_frame(ctx->outputs[0], frame);
}

/* Takes what there is of one input. 1: it was a frame or the end; 0: there is nothing yet. */
static int take_input(AVFilterContext *ctx, tds_role role)
{
    TDSEnhanceContext *s = ctx->priv;
    AVFilterLink *inlink = ctx->inputs[s->pad_of[role]];
    AVFrame *frame;
    int64_t pts;
    int status, ret;

    ret = ff_inlink_consume_frame(inlink, &frame);
    if (ret < 0)
        return ret;
    if (ret > 0) {
        ret = s->seeking ? seek_hr(ctx, frame) : take_frame(ctx, role, frame);
        return ret < 0 ? ret : 1;
    }
    if (!ff_inlink_acknowledge_status(inlink, &status, &pts))
        return 0;
    if (status != AVERROR_EOF && !s->status)
        s->status = status;
    if (s->seeking && (ret = seek_hr(ctx, NULL)) < 0)
        return ret;
    tds_times_end(s->times, role);
    s->input_ended[role] = 1;
    return 1;
}

/* Gives the engine the next of one stream. 1: it got something; 0: its input has to come first,
 * and *inputs says which. */
static int feed_stream(AVFilterContext *ctx, tds_role role, unsigned *inputs)
{
    TDSEnhanceContext *s = ctx->priv;
    tds_event event;
    tds_result result = tds_times_next(s->times, role, &event);
    int ret;

    if (result == TDS_AGAIN) {
        *inputs |= tds_times_wants(s->times, role);
        return 0;
    }
    say_times(ctx);
    if (result == TDS_END) {
        s->ended[role] = 1;
        result = tds_session_send(s->session, role, NULL);
    } else if (result == TDS_OK && event.kind == TDS_EVENT_PICTURE) {
        ret = send_frame(ctx, role, &event);
        return ret < 0 ? ret : 1;
    } else if (result == TDS_OK)
        result = tds_session_send_lost(s->session, role, event.pts);
    if (result < 0) {
        av_log(ctx, AV_LOG_ERROR, "%s\n", tds_last_error());
        return tds_averror(result);
    }
    return result == TDS_OK ? 1 : AVERROR_BUG;
}

/* Feeds the engine from the inputs it wants. 1: it got something; 0: asked upstream for more. */
static int feed(AVFilterContext *ctx)
{
    TDSEnhanceContext *s = ctx->priv;
    unsigned inputs = 0;
    int fed = 0, ret;

    if (s->seeking) {
        inputs = 1U << TDS_HR;
        if (s->pad_of[TDS_LR] >= 0 && (ret = seek_lr(ctx)) < 0)
            return ret;
    } else {
        const unsigned wants = tds_session_wants(s->session);

        for (int role = 0; role < 2; role++)
            if (wants & (1U << role) && !s->ended[role]) {
                ret = feed_stream(ctx, role, &inputs);
                if (ret < 0)
                    return ret;
                fed |= ret;
            }
    }
    if (fed)
        return 1;
    for (int role = 0; role < 2; role++)
        if (inputs & (1U << role) && !s->input_ended[role]) {
            ret = take_input(ctx, role);
            if (ret < 0)
                return ret;
            fed |= ret;
        }
    if (fed)
        return 1;
    for (int role = 0; role < 2; role++)
        if (inputs & (1U << role) && !s->input_ended[role]) {
            ff_inlink_request_frame(ctx->inputs[s->pad_of[role]]);
            fed = 1;
        }
    return fed ? 0 : AVERROR_BUG; /* neither gives nor wants */
}

static void report(AVFilterContext *ctx)
{
    TDSEnhanceContext *s = ctx->priv;

    av_log(ctx, AV_LOG_VERBOSE, "%"PRId64" frames passed, %"PRId64" enhanced, %"PRId64
           " up-sampled, %"PRId64" repeated, %"PRId64" refined.\n", s->count[TDS_STATUS_PASSED],
           s->count[TDS_STATUS_ENHANCED], s->count[TDS_STATUS_UPSAMPLED],
           s->count[TDS_STATUS_REPEATED], s->count[TDS_STATUS_REFINED]);
    if (s->nb_missing)
        av_log(ctx, AV_LOG_WARNING, "%"PRId64" LR frames lacked the HR frame before or after them "
               "(the HR video starts late, ends early or has a gap): %s.\n", s->nb_missing,
               s->on_missing == ON_MISSING_DROP ? "dropped, as on_missing=drop says"
                                                : "rebuilt with less quality");
    if (s->nb_gaps)
        av_log(ctx, AV_LOG_WARNING, "The LR video ends early, at %g s: after it there are only the "
               "HR frames, with %"PRId64" gaps between them.\n",
               s->last_pts[TDS_LR] * av_q2d(ctx->outputs[0]->time_base), s->nb_gaps);
    if (s->pad_of[TDS_LR] >= 0 &&
        s->count[TDS_STATUS_ENHANCED] + s->count[TDS_STATUS_UPSAMPLED] + s->nb_missing == 0 &&
        s->count[TDS_STATUS_PASSED] + s->count[TDS_STATUS_REFINED] > 1 && s->start == INT64_MIN)
        av_log(ctx, AV_LOG_WARNING, "No LR frame fell between two HR frames: the two videos are "
               "not the parts of one TDS video, or their times are lost.\n");
}

static int step(AVFilterContext *ctx)
{
    TDSEnhanceContext *s  = ctx->priv;
    AVFilterLink *outlink = ctx->outputs[0];
    AVFrame *frame;
    int ret;

    while (ff_outlink_frame_wanted(outlink)) {
        tds_picture picture;
        tds_result result;

        if (s->rate.num && av_fifo_read(s->held, &frame, 1) >= 0)
            return output_frame(ctx, frame);
        if (s->drained) {
            report(ctx);
            s->closed = 1;
            for (unsigned i = 0; i < ctx->nb_inputs; i++)
                ff_inlink_set_status(ctx->inputs[i], AVERROR_EOF);
            ff_outlink_set_status(outlink, s->status ? s->status : AVERROR_EOF, s->end_pts);
            return 0;
        }

        tds_picture_init(&picture);
        result = tds_session_receive(s->session, &picture);
        if (result < 0) {
            av_log(ctx, AV_LOG_ERROR, "%s\n", tds_last_error());
            return tds_averror(result);
        }
        if (result == TDS_AGAIN) {
            ret = feed(ctx);
            if (ret <= 0)
                return ret;
            continue;
        }
        if (result == TDS_END)
            s->drained = 1;
        else {
            ret = take_picture(ctx, &picture, &frame);
            if (ret < 0)
                return ret;
            if (frame && s->rate.num)
                return output_frame(ctx, frame);
            if (frame && (ret = av_fifo_write(s->held, &frame, 1)) < 0) {
                av_frame_free(&frame);
                return ret;
            }
        }
        if (!s->rate.num && (s->drained || av_fifo_can_read(s->held) >= TDS_RATE_PICTURES))
            settle_rate(ctx);
    }
    return 0;
}

static int activate(AVFilterContext *ctx)
{
    TDSEnhanceContext *s  = ctx->priv;
    AVFilterLink *outlink = ctx->outputs[0];
    int ret = ff_outlink_get_status(outlink);

    if (ret) {
        s->closed = 1;
        for (unsigned i = 0; i < ctx->nb_inputs; i++)
            ff_inlink_set_status(ctx->inputs[i], ret);
        return 0;
    }

    ret = cuda_push(ctx);
    if (ret < 0)
        return ret;
    ret = step(ctx);
    cuda_pop(ctx);
    return ret;
}

/* ----------------------------------------------------------- configuration -- */

/* Takes what the program knows about one input, "PAD START DURATION OFFSET FIRST LENGTH TAG": the
 * cut of it, which is left to this filter since frames outside are references, what was added to
 * the file's times and how long it is, and the container's tag. A command and no options, so that
 * what the user gives stays apart from it. */
static int know_input(AVFilterContext *ctx, const char *text)
{
    TDSEnhanceContext *s = ctx->priv;
    char *end;
    const long pad = strtol(text, &end, 10);
    Source *source;

    if (end == text || pad < 0 || pad >= ctx->nb_inputs || s->session)
        return AVERROR(EINVAL);
    source           = &s->sources[pad];
    source->known    = 1;
    source->start    = strtoll(end, &end, 10);
    source->duration = strtoll(end, &end, 10);
    source->offset   = strtoll(end, &end, 10);
    source->first    = strtoll(end, &end, 10);
    source->length   = strtoll(end, &end, 10);
    av_freep(&source->tag);
    end += strspn(end, " ");
    if (*end && !(source->tag = av_strdup(end)))
        return AVERROR(ENOMEM);
    return 0;
}

/* Of one video, the tag of a plain stream. One stream of a pair is a video like any other, and any
 * video may have a key of that name. */
static av_cold int settle_plain(TDSEnhanceContext *s, const char *text, const AVFilterLink *inlink)
{
    if (tds_tag_parse(text, strlen(text), "the video's container", &s->tag) == TDS_OK) {
        tds_tag_read(s->tag, &s->tagged);
        if (!s->tagged.lr_frames && s->tagged.width == inlink->w && s->tagged.height == inlink->h)
            return 0;
    }
    tds_tag_free(s->tag);
    s->tag    = NULL;
    s->tagged = (tds_tag_values){ 0 };
    return 0;
}

/* The cut and the tag: the user's; else those of the HR input, which say what is asked of the
 * whole, also where the two inputs are two files; else those of the LR input. */
static av_cold int settle_source(AVFilterContext *ctx)
{
    TDSEnhanceContext *s = ctx->priv;
    const Source *hr = &s->sources[s->pad_of[TDS_HR]];
    const Source *lr = s->pad_of[TDS_LR] < 0 ? hr : &s->sources[s->pad_of[TDS_LR]];
    const Source *cut = hr->known ? hr : lr;
    const char *text = s->container ? s->container : hr->tag ? hr->tag : lr->tag;
    tds_result result;

    s->start  = s->start_time;
    s->length = s->max_duration;
    if (cut->known && s->start == INT64_MIN && cut->start != AV_NOPTS_VALUE)
        s->start = cut->start;
    if (cut->known && s->length <= 0 && cut->duration != INT64_MAX)
        s->length = cut->duration;

    tds_tag_free(s->tag);
    s->tag    = NULL;
    s->tagged = (tds_tag_values){ 0 };
    if (!text || !strcmp(text, "none"))
        return 0;
    if (s->pad_of[TDS_LR] < 0)
        return settle_plain(s, text, ctx->inputs[s->pad_of[TDS_HR]]);
    result = tds_tag_parse(text, strlen(text), s->container ? "the option container"
                                                            : "the video's container", &s->tag);
    if (result < 0) {
        av_log(ctx, AV_LOG_ERROR, "%s; container=none goes on without it.\n", tds_last_error());
        return AVERROR_INVALIDDATA;
    }
    tds_tag_read(s->tag, &s->tagged);
    if (s->tagged.scale != s->scale) {
        av_log(ctx, AV_LOG_ERROR, "The container says k = %d, and the sizes of the two videos say "
               "%d: they do not belong together, or not to this tag; container=none goes on "
               "without it.\n", s->tagged.scale, s->scale);
        return AVERROR_INVALIDDATA;
    }
    return 0;
}

/* Compares the inputs' times with the plan of the tag. */
static av_cold int open_times(AVFilterContext *ctx)
{
    TDSEnhanceContext *s  = ctx->priv;
    const AVRational tb   = ctx->outputs[0]->time_base;
    const Source *hr      = &s->sources[s->pad_of[TDS_HR]];
    tds_times_settings settings = { .tag = s->tag, .unit = { tb.num, tb.den } };
    tds_result result;

    for (int role = 0; role < 2; role++) {
        const int pad = FFMAX(s->pad_of[role], 0);

        settings.clock[role] = (tds_rational){ ctx->inputs[pad]->time_base.num,
                                               ctx->inputs[pad]->time_base.den };
    }
    /* A file as long as its plan is the whole of it, so that each frame's place is certain. */
    if (s->tag && s->tagged.times_known && hr->known && hr->first != AV_NOPTS_VALUE &&
        hr->length > 0) {
        const AVRational unit  = { s->tagged.time_base.num, s->tagged.time_base.den };
        const AVRational frame = { s->tagged.rate.den, s->tagged.rate.num };
        const int64_t start    = av_rescale_q(s->tagged.start, unit, AV_TIME_BASE_Q);
        const int64_t one      = av_rescale_q(1, frame, AV_TIME_BASE_Q);
        const int64_t length   = av_rescale_q(s->tagged.end, unit, AV_TIME_BASE_Q) - start + one;

        if (FFABS(hr->length - length) < 3 * one) {
            settings.offset_known = 1;
            settings.offset       = av_rescale_q(hr->first - start + hr->offset,
                                                 AV_TIME_BASE_Q, tb);
        }
    }
    tds_times_close(s->times);
    s->times = NULL;
    result = tds_times_open(&settings, &s->times);
    if (result < 0) {
        av_log(ctx, AV_LOG_ERROR, "%s\n", tds_last_error());
        return tds_averror(result);
    }
    if (s->pad_of[TDS_LR] < 0)
        tds_times_end(s->times, TDS_LR);
    return 0;
}

/* Which input is HR: the larger one. */
static av_cold int find_roles(AVFilterContext *ctx)
{
    TDSEnhanceContext *s = ctx->priv;
    const AVFilterLink *hr, *lr;

    s->pad_of[TDS_HR] = 0;
    s->pad_of[TDS_LR] = -1;
    s->scale          = 1;
    if (ctx->nb_inputs == 1)
        return 0;
    s->pad_of[TDS_HR] = (int64_t)ctx->inputs[1]->w * ctx->inputs[1]->h >
                        (int64_t)ctx->inputs[0]->w * ctx->inputs[0]->h;
    s->pad_of[TDS_LR] = !s->pad_of[TDS_HR];

    hr = ctx->inputs[s->pad_of[TDS_HR]];
    lr = ctx->inputs[s->pad_of[TDS_LR]];
    s->scale = tds_scale_of(hr->w, hr->h, lr->w, lr->h);
    if (!s->scale) {
        av_log(ctx, AV_LOG_ERROR, "Videos of %dx%d and %dx%d are not the HR and LR parts of one "
               "TDS video: to %dx%d belongs %dx%d (k=2) or %dx%d (k=4). Choose the two streams "
               "with -filter_complex \"[0:v:0][0:v:1]tds_enhance\"; if this is no TDS file, tds "
               "encode makes one of it.\n",
               hr->w, hr->h, lr->w, lr->h, hr->w, hr->h,
               tds_lr_size(hr->w, 2), tds_lr_size(hr->h, 2),
               tds_lr_size(hr->w, 4), tds_lr_size(hr->h, 4));
        return AVERROR(EINVAL);
    }
    return 0;
}

static av_cold int open_engine(AVFilterContext *ctx, const char *backend,
                               const tds_model_choice *choice, const char *device,
                               enum AVPixelFormat sw_format)
{
    TDSEnhanceContext *s = ctx->priv;
    const AVFilterLink *hr = ctx->inputs[s->pad_of[TDS_HR]];
    tds_settings settings;
    tds_result result;
    int ret;

    tds_default_settings(&settings);
    settings.width            = hr->w;
    settings.height           = hr->h;
    settings.scale            = s->scale;
    settings.bit_depth        = s->bit_depth;
    settings.chroma           = chroma_of(sw_format);
    settings.backend          = backend;
    settings.kind             = s->pad_of[TDS_LR] < 0 ? TDS_KIND_PLAIN : TDS_KIND_PAIR;
    settings.model            = choice ? choice->path : NULL;
    settings.hr_model         = choice && choice->hr_path[0] ? choice->hr_path : NULL;
    settings.causal           = s->causal;
    settings.strength         = s->strength < 0 ? 1 : s->strength;
    settings.device           = device;
    settings.precision        = precision_names[s->precision];
    settings.threads          = ff_filter_get_nb_threads(ctx);
    settings.max_batch        = s->max_batch;
    settings.hr_qp            = s->hr_qp >= 0 || !s->tag ? s->hr_qp : s->tagged.hr_qp;
    settings.lr_qp            = s->lr_qp >= 0 || !s->tag ? s->lr_qp : s->tagged.lr_qp;
    settings.output_memory    = is_cuda(s) ? TDS_MEMORY_CUDA : TDS_MEMORY_HOST;
    settings.output_layout    = sw_format == AV_PIX_FMT_NV12 || sw_format == AV_PIX_FMT_P010LE
                              ? TDS_LAYOUT_SEMIPLANAR : TDS_LAYOUT_PLANAR;
    settings.allocate         = allocate_picture;
    settings.allocate_context = ctx;
    settings.log              = log_callback;
    settings.log_context      = ctx;

    ret = cuda_push(ctx);
    if (ret < 0)
        return ret;
    result = tds_session_open(&settings, &s->session);
    cuda_pop(ctx);
    return result < 0 ? tds_averror(result) : 0;
}

static av_cold int open_bicubic(AVFilterContext *ctx, enum AVPixelFormat sw_format)
{
    int ret;

    if (is_cuda(ctx->priv)) {
        av_log(ctx, AV_LOG_ERROR, "Without a model tds_enhance works on frames in host memory; put "
               "hwdownload,format=%s before it.\n", av_get_pix_fmt_name(sw_format));
        return AVERROR(ENOSYS);
    }
    ret = open_engine(ctx, "bicubic", NULL, "cpu", sw_format);
    if (ret < 0)
        av_log(ctx, AV_LOG_ERROR, "%s\n", tds_last_error());
    return ret;
}

/* Chooses the model and opens the session with it. */
static av_cold int open_with_model(AVFilterContext *ctx, const char *device,
                                   enum AVPixelFormat sw_format)
{
    TDSEnhanceContext *s = ctx->priv;
    tds_model_request request = {
        .model     = s->model,
        .sha256    = s->model_sha256,
        .tag       = s->tag,
        .scale     = s->scale,
        .device    = device,
        .refine_hr = s->pad_of[TDS_LR] >= 0 &&
                     (s->hr == HR_REFINE || (s->hr == HR_AUTO && s->tagged.refine_hr)),
    };
    tds_model_choice *choice = av_malloc(sizeof(*choice));
    tds_result found;
    int ret;

    if (!choice)
        return AVERROR(ENOMEM);
    found = tds_model_choose(&request, choice);
    if (found < 0)
        ret = tds_averror(found);
    else {
        for (const char *line = choice->notices; *line; line = strchr(line, '\n') + 1)
            av_log(ctx, AV_LOG_WARNING, "Of the model: %.*s.\n", (int)strcspn(line, "\n"), line);
        s->use_strengths = choice->of_tag && s->strength < 0;
        ret = open_engine(ctx, backend_names[s->backend], choice, device, sw_format);
    }
    av_free(choice);
    return ret;
}

/* Opens the session with the model that was asked for, or that is there, or without one. */
static av_cold int open_session(AVFilterContext *ctx, enum AVPixelFormat sw_format)
{
    TDSEnhanceContext *s = ctx->priv;
    const int explicit = s->model || s->model_sha256 || s->backend == BACKEND_TORCHSCRIPT ||
                         strcmp(s->device, "auto");
    const int forgiving = s->fallback == FALLBACK_BICUBIC ||
                          (s->fallback == FALLBACK_AUTO && !explicit);
    const int plain = s->pad_of[TDS_LR] < 0;
    const int passes = plain && (s->strength == 0 || s->hr == HR_PASS ||
                                 (s->hr == HR_AUTO && s->tag && !s->tagged.refine_hr));
    const char *device = s->device;
    char device_name[32];
    tds_info info;
    int ret;

    /* cudaN spares the escape that cuda:N needs in a filter description. */
    if (!strncmp(device, "cuda", 4) && av_isdigit(device[4])) {
        snprintf(device_name, sizeof(device_name), "cuda:%.16s", device + 4);
        device = device_name;
    } else if (is_cuda(s) && !strcmp(device, "auto")) {
        snprintf(device_name, sizeof(device_name), "cuda:%d", s->cuda_index);
        device = device_name;
    }

    s->use_strengths = 0;
    if (s->backend == BACKEND_BICUBIC || passes)
        ret = open_bicubic(ctx, sw_format);
    else {
        ret = open_with_model(ctx, device, sw_format);
        if (ret < 0 && !forgiving)
            av_log(ctx, AV_LOG_ERROR, "%s\n", tds_last_error());
        else if (ret < 0) {
            if (is_cuda(s)) /* what to do about it, open_bicubic says */
                av_log(ctx, AV_LOG_ERROR, "%s\n", tds_last_error());
            else if (plain)
                av_log(ctx, AV_LOG_WARNING, "%s. Frames pass as they are; backend=bicubic says "
                       "that this is wanted.\n", tds_last_error());
            else
                av_log(ctx, AV_LOG_WARNING, "%s. LR frames are up-sampled by bicubic, without a "
                       "model; backend=bicubic says that this is wanted.\n", tds_last_error());
            ret = open_bicubic(ctx, sw_format);
        }
    }
    if (ret < 0)
        return ret;

    if (tds_session_info(s->session, &info) == TDS_OK)
        av_log(ctx, AV_LOG_VERBOSE, "%s%s%s, %s, %s\n", info.backend,
               info.model_name[0] ? " " : "", info.model_name, info.device, info.precision);
    return 0;
}

static av_cold int config_output(AVFilterLink *outlink)
{
    AVFilterContext *ctx = outlink->src;
    TDSEnhanceContext *s = ctx->priv;
    FilterLink *outl     = ff_filter_link(outlink);
    const AVFilterLink *hr, *lr;
    enum AVPixelFormat sw_format;
    int ret;

    ret = find_roles(ctx);
    if (ret < 0)
        return ret;
    ret = settle_source(ctx);
    if (ret < 0)
        return ret;
    hr = ctx->inputs[s->pad_of[TDS_HR]];
    lr = s->pad_of[TDS_LR] < 0 ? hr : ctx->inputs[s->pad_of[TDS_LR]];
    if (hr != lr && s->scale == 1 && !s->tag)
        av_log(ctx, AV_LOG_WARNING, "Both videos are %dx%d, which makes them a TDS video with "
               "k = 1, or no HR and LR at all; if so, choose the two streams with -filter_complex "
               "\"[0:v:0][0:v:1]tds_enhance\".\n", hr->w, hr->h);

    outlink->w         = hr->w;
    outlink->h         = hr->h;
    outlink->colorspace  = hr->colorspace;
    outlink->color_range = hr->color_range;
    outlink->sample_aspect_ratio = hr->sample_aspect_ratio.num ? hr->sample_aspect_ratio
                                                               : lr->sample_aspect_ratio;
    /* A unit that holds both inputs' times exactly. */
    outlink->time_base = av_gcd_q(hr->time_base, lr->time_base, INT_MAX, AV_TIME_BASE_Q);

    sw_format = outlink->format;
    if (outlink->format == AV_PIX_FMT_CUDA) {
        ret = cuda_configure(ctx, outlink, &sw_format);
        if (ret < 0)
            return ret;
    }
    s->bit_depth = 0;
    switch (sw_format) {
    case AV_PIX_FMT_YUV420P:
    case AV_PIX_FMT_YUVJ420P:
    case AV_PIX_FMT_NV12:
    case AV_PIX_FMT_YUV422P:
    case AV_PIX_FMT_YUVJ422P:
    case AV_PIX_FMT_YUV444P:
    case AV_PIX_FMT_YUVJ444P:
        s->bit_depth = 8;
        break;
    case AV_PIX_FMT_YUV420P10LE:
    case AV_PIX_FMT_P010LE:
    case AV_PIX_FMT_YUV422P10LE:
    case AV_PIX_FMT_YUV444P10LE:
        s->bit_depth = 10;
        break;
    default:
        break;
    }
    if (!s->bit_depth || (is_cuda(s) && chroma_of(sw_format) != TDS_CHROMA_420)) {
        av_log(ctx, AV_LOG_ERROR, "CUDA frames of %s are not supported; yuv420p, nv12 and p010 "
               "are.\n", av_get_pix_fmt_name(sw_format));
        return AVERROR(EINVAL);
    }

    /* What the inputs' links say of their rate is that of tracks with gaps, and another one after
     * each remux: not to be used. Unknown until the time stamps show it, if nobody knows. */
    if (strcmp(s->rate_str, "auto")) {
        ret = av_parse_video_rate(&s->rate, s->rate_str);
        if (ret < 0) {
            av_log(ctx, AV_LOG_ERROR, "'%s' is no frame rate; give one as 25 or 30000/1001, or "
                   "auto.\n", s->rate_str);
            return ret;
        }
    } else if (s->tag)
        s->rate = (AVRational){ s->tagged.rate.num, s->tagged.rate.den };
    s->rate_given = s->rate.num > 0;
    outl->frame_rate  = s->rate.num > 0 ? s->rate : (AVRational){ 1, 0 };
    if (s->rate.num > 0)
        use_rate(ctx, s->rate);

    s->seeking     = s->start != INT64_MIN;
    s->skip_before = INT64_MIN;

    /* Format negotiation may configure a link again. */
    tds_session_close(s->session);
    s->session = NULL;
    ret = open_times(ctx);
    if (ret >= 0)
        ret = open_session(ctx, sw_format);
    if (ret < 0)
        return ret;
    s->input_ended[TDS_LR] = s->pad_of[TDS_LR] < 0;
    av_log(ctx, AV_LOG_VERBOSE, "HR %dx%d on input %d, LR %dx%d on input %d, k=%d, %d bit\n",
           hr->w, hr->h, s->pad_of[TDS_HR], lr->w, lr->h, s->pad_of[TDS_LR], s->scale,
           s->bit_depth);
    return 0;
}

/* Whether a format is among those in a list. */
static int has_format(const AVFilterFormats *list, enum AVPixelFormat format)
{
    for (unsigned i = 0; i < list->nb_formats; i++)
        if (list->formats[i] == format)
            return 1;
    return 0;
}

static int query_formats(const AVFilterContext *ctx, AVFilterFormatsConfig **cfg_in,
                         AVFilterFormatsConfig **cfg_out)
{
    static const enum AVPixelFormat more[] = {
        AV_PIX_FMT_YUV422P, AV_PIX_FMT_YUVJ422P, AV_PIX_FMT_YUV422P10LE,
        AV_PIX_FMT_YUV444P, AV_PIX_FMT_YUVJ444P, AV_PIX_FMT_YUV444P10LE,
    };
    enum AVPixelFormat formats[7 + FF_ARRAY_ELEMS(more)] = {
        AV_PIX_FMT_YUV420P, AV_PIX_FMT_YUVJ420P, AV_PIX_FMT_NV12,
        AV_PIX_FMT_YUV420P10LE, AV_PIX_FMT_P010LE,
        AV_PIX_FMT_CUDA,
    };
    unsigned count = 6;
    AVFilterFormats *spaces, *ranges;
    int ret;

    /* Of 4:2:2 and 4:4:4 only what all inputs have: an output that wants such a format must not
     * have 4:2:0 converted to it before the model sees it. */
    for (unsigned i = 0; i < ctx->nb_inputs; i++)
        if (!ctx->inputs[i]->incfg.formats)
            return AVERROR(EAGAIN);
    for (unsigned f = 0; f < FF_ARRAY_ELEMS(more); f++) {
        unsigned i = 0;

        while (i < ctx->nb_inputs && has_format(ctx->inputs[i]->incfg.formats, more[f]))
            i++;
        if (i == ctx->nb_inputs)
            formats[count++] = more[f];
    }
    formats[count] = AV_PIX_FMT_NONE;
    spaces = ff_all_color_spaces();
    ranges = ff_all_color_ranges();

    /* One sample format everywhere. Colour tags are carried, never converted: an LR stream whose
     * tags got lost must not be taken for one in another colour space. */
    if ((ret = ff_formats_ref(spaces, &cfg_in[0]->color_spaces)) < 0 ||
        (ret = ff_formats_ref(spaces, &cfg_out[0]->color_spaces)) < 0 ||
        (ret = ff_formats_ref(ranges, &cfg_in[0]->color_ranges)) < 0 ||
        (ret = ff_formats_ref(ranges, &cfg_out[0]->color_ranges)) < 0)
        return ret;
    for (unsigned i = 1; i < ctx->nb_inputs; i++)
        if ((ret = ff_formats_ref(ff_all_color_spaces(), &cfg_in[i]->color_spaces)) < 0 ||
            (ret = ff_formats_ref(ff_all_color_ranges(), &cfg_in[i]->color_ranges)) < 0)
            return ret;
    return ff_set_common_formats_from_list2(ctx, cfg_in, cfg_out, formats);
}

static int process_command(AVFilterContext *ctx, const char *cmd, const char *arg, char *res,
                           int res_len, int flags)
{
    if (!strcmp(cmd, "input"))
        return know_input(ctx, arg);
    return ff_filter_process_command(ctx, cmd, arg, res, res_len, flags);
}

static av_cold int init(AVFilterContext *ctx)
{
    TDSEnhanceContext *s = ctx->priv;

    /* Runs twice in one run of ffmpeg (to learn the pads, to build the graph): no model here. */
    for (int i = 0; i < s->nb_inputs; i++) {
        AVFilterPad pad = { .type = AVMEDIA_TYPE_VIDEO };
        int ret;

        pad.name = av_asprintf("input%d", i);
        if (!pad.name)
            return AVERROR(ENOMEM);
        ret = ff_append_inpad_free_name(ctx, &pad);
        if (ret < 0)
            return ret;
    }
    for (int i = 0; i < 2; i++) {
        s->last_pts[i] = AV_NOPTS_VALUE;
        s->known[i]   = av_fifo_alloc2(16, sizeof(AVFrame *), AV_FIFO_FLAG_AUTO_GROW);
        s->waiting[i] = av_fifo_alloc2(16, sizeof(AVFrame *), AV_FIFO_FLAG_AUTO_GROW);
        if (!s->known[i] || !s->waiting[i])
            return AVERROR(ENOMEM);
    }
    s->held = av_fifo_alloc2(TDS_RATE_PICTURES, sizeof(AVFrame *), AV_FIFO_FLAG_AUTO_GROW);
    if (!s->held)
        return AVERROR(ENOMEM);
    s->rate     = (AVRational){ 0, 1 };
    s->first_out = s->prev_out = AV_NOPTS_VALUE;
    s->end_pts  = AV_NOPTS_VALUE;
    return 0;
}

static av_cold void uninit(AVFilterContext *ctx)
{
    TDSEnhanceContext *s = ctx->priv;
    size_t waiting = 0;

    for (int i = 0; i < 2; i++)
        waiting += (s->known[i] ? av_fifo_can_read(s->known[i]) : 0) +
                   (s->waiting[i] ? av_fifo_can_read(s->waiting[i]) : 0);
    if (waiting && !s->closed && s->session)
        av_log(ctx, AV_LOG_VERBOSE, "%zu frames were waiting when the filter was closed before "
               "its end.\n", waiting);
    if (s->session) {
        if (cuda_push(ctx) >= 0) {
            tds_session_close(s->session);
            cuda_pop(ctx);
        } else
            tds_session_close(s->session);
        s->session = NULL;
    }
    for (int i = 0; i < 2; i++) {
        av_freep(&s->sources[i].tag);
        free_known(s->known[i]);
        av_fifo_freep2(&s->known[i]);
        free_known(s->waiting[i]);
        av_fifo_freep2(&s->waiting[i]);
    }
    tds_times_close(s->times);
    tds_tag_free(s->tag);
    av_freep(&s->said);
    free_known(s->held);
    av_fifo_freep2(&s->held);
    av_frame_free(&s->last_hr);
    av_frame_free(&s->seek_frame);
    av_buffer_unref(&s->hw_frames);
}

static const AVFilterPad tds_enhance_outputs[] = {
    {
        .name         = "default",
        .type         = AVMEDIA_TYPE_VIDEO,
        .config_props = config_output,
    },
};

#define DESCRIPTION NULL_IF_CONFIG_SMALL("Rebuild a TDS video (key frames at full size and small " \
                                         "frames between them), or enhance any video.")

/* 7.1 has all fields in AVFilter, 8 and later the public ones in FFFilter.p. */
#if LIBAVFILTER_VERSION_MAJOR >= 11
const FFFilter ff_vf_tds_enhance = {
    .p.name        = "tds_enhance",
    .p.description = DESCRIPTION,
    .p.priv_class  = &tds_enhance_class,
    .p.inputs      = NULL,
    .p.flags       = AVFILTER_FLAG_DYNAMIC_INPUTS,
#else
const AVFilter ff_vf_tds_enhance = {
    .name          = "tds_enhance",
    .description   = DESCRIPTION,
    .priv_class    = &tds_enhance_class,
    .inputs        = NULL,
    .flags         = AVFILTER_FLAG_DYNAMIC_INPUTS,
#endif
    .priv_size     = sizeof(TDSEnhanceContext),
    .init          = init,
    .uninit        = uninit,
    .activate      = activate,
    .process_command = process_command,
    FILTER_OUTPUTS(tds_enhance_outputs),
    FILTER_QUERY_FUNC2(query_formats),
    .flags_internal = FF_FILTER_FLAG_HWFRAME_AWARE,
};
