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
 * at 1/k of the size. One output: all frames at full size in display order.
 * Pairing, the order of work and the enhancement itself are libtds; this file
 * moves frames in and out of it and keeps everything FFmpeg knows about a frame
 * that libtds does not.
 */

#include <inttypes.h>
#include <math.h>
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

/* Pictures looked at before the frame rate is settled, when nobody gave it. */
#define RATE_PICTURES 5

/* Characters of a model's name in a container at most. */
#define MAX_MODEL_NAME 64

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

enum Backend { BACKEND_AUTO, BACKEND_BICUBIC, BACKEND_TORCHSCRIPT, BACKEND_NB };
static const char *const backend_names[BACKEND_NB] = { "auto", "bicubic", "torchscript" };

enum Precision { PREC_AUTO, PREC_FLOAT32, PREC_FLOAT16, PREC_BFLOAT16, PREC_NB };
static const char *const precision_names[PREC_NB] = { "auto", "float32", "float16", "bfloat16" };

/* What the program that reads the files knows about one input; see know_input(). */
typedef struct Source {
    int      known;
    int64_t  start;    ///< microseconds; AV_NOPTS_VALUE: from its beginning
    int64_t  duration; ///< microseconds; INT64_MAX: all
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
    const char *tag;    ///< as container, likewise, or from the LR input; never NULL
    tds_session *session;
    int     pad_of[2]; ///< input pad of TDS_HR and TDS_LR; -1: there is none
    int     scale;
    int     bit_depth;
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

    int64_t count[4];  ///< output by tds_status
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
    { "rate",         "nominal frame rate of the output, as 25 or 30000/1001; auto: from the time stamps", OFFSET(rate_str), AV_OPT_TYPE_STRING, { .str = "auto" }, 0, 0, FLAGS },
    { "on_missing",   "LR frames that lack the HR frame before or after them", OFFSET(on_missing), AV_OPT_TYPE_INT, { .i64 = ON_MISSING_ENHANCE }, 0, ON_MISSING_NB - 1, TFLAGS, .unit = "on_missing" },
    { "enhance",      "rebuild them from the HR frame there is, or up-sample", 0, AV_OPT_TYPE_CONST, { .i64 = ON_MISSING_ENHANCE }, .flags = TFLAGS, .unit = "on_missing" },
    { "drop",         "do not output them",                                0, AV_OPT_TYPE_CONST, { .i64 = ON_MISSING_DROP },     .flags = TFLAGS, .unit = "on_missing" },
    { "error",        "stop with an error",                                0, AV_OPT_TYPE_CONST, { .i64 = ON_MISSING_ERROR },    .flags = TFLAGS, .unit = "on_missing" },
    { "fallback",     "when no model can be loaded",                       OFFSET(fallback), AV_OPT_TYPE_INT, { .i64 = FALLBACK_AUTO }, 0, FALLBACK_NB - 1, FLAGS, .unit = "fallback" },
    { "auto",         "error if a model, a device or torchscript was asked for, else bicubic", 0, AV_OPT_TYPE_CONST, { .i64 = FALLBACK_AUTO }, .flags = FLAGS, .unit = "fallback" },
    { "bicubic",      "warn and up-sample",                                0, AV_OPT_TYPE_CONST, { .i64 = FALLBACK_BICUBIC },    .flags = FLAGS, .unit = "fallback" },
    { "error",        "stop with an error",                                0, AV_OPT_TYPE_CONST, { .i64 = FALLBACK_ERROR },      .flags = FLAGS, .unit = "fallback" },
    { "hr_qp",        "QP of the HR stream, for models that use it; -1: not known", OFFSET(hr_qp), AV_OPT_TYPE_INT, { .i64 = -1 }, -1, 63, FLAGS },
    { "lr_qp",        "QP of the LR stream, likewise",                     OFFSET(lr_qp), AV_OPT_TYPE_INT, { .i64 = -1 }, -1, 63, FLAGS },
    { "max_batch",    "frames given to the model at once; fewer need less memory", OFFSET(max_batch), AV_OPT_TYPE_INT, { .i64 = 4 }, 1, TDS_MAX_PENDING, FLAGS },
    { "start_time",   "output begins here; earlier frames serve as references only", OFFSET(start_time), AV_OPT_TYPE_DURATION, { .i64 = INT64_MIN }, INT64_MIN, INT64_MAX, FLAGS },
    { "duration",     "length of the output; later frames serve as references only; 0: all", OFFSET(max_duration), AV_OPT_TYPE_DURATION, { .i64 = 0 }, 0, INT64_MAX, FLAGS },
    { "inputs",       "2: HR and LR, in any order; 1: HR alone, passed through", OFFSET(nb_inputs), AV_OPT_TYPE_INT, { .i64 = 2 }, 1, 2, FLAGS },
    { "container",    "the JSON of the container's tag 'tds' (rate, model, QPs), for what no option gives (default: that of the file, in the patched ffmpeg program)", OFFSET(container), AV_OPT_TYPE_STRING, { .str = NULL }, 0, 0, FLAGS },
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

static const AVRational usual_rates[] = {
    { 240, 1 }, { 240000, 1001 }, { 200, 1 }, { 120, 1 }, { 120000, 1001 }, { 100, 1 },
    { 60, 1 }, { 60000, 1001 }, { 50, 1 }, { 48, 1 }, { 48000, 1001 }, { 30, 1 },
    { 30000, 1001 }, { 25, 1 }, { 24, 1 }, { 24000, 1001 }, { 20, 1 }, { 15, 1 },
    { 15000, 1001 }, { 12, 1 }, { 10, 1 }, { 5, 1 }, { 1, 1 },
};

/* The rate of pictures at these times: exact where they are evenly spaced, else (times that were
 * rounded to milliseconds once) the highest usual rate that they allow. The highest, because a
 * program that makes a constant rate of it then repeats a frame at worst, and never loses one. */
static AVRational rate_of_times(const int64_t *times, int nb, AVRational tb)
{
    const double span = nb < 2 ? 0 : times[nb - 1] - times[0];
    int64_t step = INT64_MAX, steps = 0;
    double uneven = 0, slowest, fastest;

    for (int i = 1; i < nb; i++)
        step = FFMIN(step, times[i] - times[i - 1]);
    if (nb < 2 || step <= 0)
        return (AVRational){ 0, 1 };
    for (int i = 1; i < nb; i++) {
        const int64_t gap = times[i] - times[i - 1];
        const int64_t n   = llrint((double)gap / step);

        steps += n;
        uneven = FFMAX(uneven, fabs((double)gap / n - step));
    }
    if (uneven == 0 && step >= 100) {
        AVRational rate;

        av_reduce(&rate.num, &rate.den, tb.den, (int64_t)tb.num * step, INT_MAX);
        return rate;
    }
    /* What rounding may have done to the first and the last time together. */
    uneven  = FFMAX(uneven, 1);
    slowest = steps / ((span + uneven) * av_q2d(tb));
    fastest = span > uneven ? steps / ((span - uneven) * av_q2d(tb)) : INFINITY;
    for (int i = 0; i < FF_ARRAY_ELEMS(usual_rates); i++) {
        const double rate = av_q2d(usual_rates[i]);

        if (rate >= slowest && rate <= fastest)
            return usual_rates[i];
    }
    return av_d2q(steps / (span * av_q2d(tb)), 100000);
}

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

/* Settles the rate by the times of the pictures held back for it. */
static void settle_rate(AVFilterContext *ctx)
{
    TDSEnhanceContext *s = ctx->priv;
    int64_t times[RATE_PICTURES];
    int nb = 0;
    AVFrame *frame;
    AVRational rate;

    while (nb < RATE_PICTURES && av_fifo_peek(s->held, &frame, 1, nb) >= 0)
        times[nb++] = frame->pts;
    rate = rate_of_times(times, nb, ctx->outputs[0]->time_base);
    if (rate.num <= 0 || rate.den <= 0) {
        rate = (AVRational){ 25, 1 };
        av_log(ctx, AV_LOG_VERBOSE, "One picture has no frame rate; taken as 25.\n");
    } else
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
        info.dropped_lr > 0 && info.dropped_lr >= s->count[TDS_STATUS_PASSED] - 1) {
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

static int send_frame(AVFilterContext *ctx, tds_role role, AVFrame *frame)
{
    TDSEnhanceContext *s = ctx->priv;
    AVFilterLink *inlink = ctx->inputs[s->pad_of[role]];
    const char *name = role == TDS_HR ? "HR" : "LR";
    tds_picture picture;
    tds_result result;
    AVFrame *known = NULL;
    int ret;

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
    if (role == TDS_LR && frame->pts < s->skip_before) {
        ret = 0;
        goto end;
    }
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
    s->last_pts[role] = known->pts;
    ret = av_fifo_write(s->known[role], &known, 1);
    if (ret < 0)
        av_frame_free(&known);
    return ret;

end:
    av_frame_free(&known);
    av_frame_free(&frame);
    return ret;
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
        ret = send_frame(ctx, TDS_HR, first);
    }
    if (ret < 0)
        av_frame_free(&frame);
    return ret < 0 || !frame ? ret : send_frame(ctx, TDS_HR, frame);
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
        av_frame_free(&s->last_hr);
        s->last_hr = av_frame_alloc();
        if (!s->last_hr || (ret = av_frame_copy_props(s->last_hr, frame)) < 0) {
            ret = AVERROR(ENOMEM);
            goto end;
        }
    } else {
        if (picture->release != release_frame) {
            av_log(ctx, AV_LOG_ERROR, "The engine gave a picture that is not the filter's.\n");
            ret = AVERROR_BUG;
            goto end;
        }
        frame = picture->owner; /* from allocate_picture() */
        picture->owner   = NULL;
        picture->release = NULL;
        if (lr && (ret = copy_lr_props(ctx, frame, lr)) < 0)
            goto end;
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

    if (missing && picture->status != TDS_STATUS_PASSED) {
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

/* Feeds the engine from the inputs it wants. 1: it got something; 0: asked upstream for more. */
static int feed(AVFilterContext *ctx)
{
    TDSEnhanceContext *s = ctx->priv;
    const unsigned wants = s->seeking ? 1U << TDS_HR : tds_session_wants(s->session);
    int fed = 0;

    if (s->seeking && s->pad_of[TDS_LR] >= 0) {
        int ret = seek_lr(ctx);

        if (ret < 0)
            return ret;
    }
    for (int role = 0; role < 2; role++) {
        AVFilterLink *inlink;
        AVFrame *frame;
        int64_t pts;
        int status, ret;

        if (!(wants & (1U << role)) || s->ended[role])
            continue;
        inlink = ctx->inputs[s->pad_of[role]];
        ret = ff_inlink_consume_frame(inlink, &frame);
        if (ret < 0)
            return ret;
        if (ret > 0) {
            ret = s->seeking ? seek_hr(ctx, frame) : send_frame(ctx, role, frame);
            if (ret < 0)
                return ret;
            fed = 1;
        } else if (ff_inlink_acknowledge_status(inlink, &status, &pts)) {
            if (status != AVERROR_EOF && !s->status)
                s->status = status;
            if (s->seeking && (ret = seek_hr(ctx, NULL)) < 0)
                return ret;
            s->ended[role] = 1;
            tds_session_send(s->session, role, NULL);
            fed = 1;
        }
    }
    if (fed)
        return 1;

    for (int role = 0; role < 2; role++)
        if ((wants & (1U << role)) && !s->ended[role]) {
            ff_inlink_request_frame(ctx->inputs[s->pad_of[role]]);
            fed = 1;
        }
    return fed ? 0 : AVERROR_BUG; /* neither gives nor wants */
}

static void report(AVFilterContext *ctx)
{
    TDSEnhanceContext *s = ctx->priv;

    av_log(ctx, AV_LOG_VERBOSE, "%"PRId64" frames passed, %"PRId64" enhanced, %"PRId64
           " up-sampled, %"PRId64" repeated.\n", s->count[TDS_STATUS_PASSED],
           s->count[TDS_STATUS_ENHANCED], s->count[TDS_STATUS_UPSAMPLED],
           s->count[TDS_STATUS_REPEATED]);
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
        s->count[TDS_STATUS_PASSED] > 1 && s->start == INT64_MIN)
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
        if (!s->rate.num && (s->drained || av_fifo_can_read(s->held) >= RATE_PICTURES))
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

/* Reads the value of a key from JSON text: the text between the quotes, or the number. Enough for
 * what the container says of itself; escapes do not occur in what is read. */
static int json_value(const char *json, const char *key, char *value, size_t size)
{
    const size_t length = strlen(key);
    size_t n = 0;

    for (const char *p = strchr(json, '"'); p;) {
        const char *begin = p + 1, *end = begin;

        while (*end && *end != '"')
            end += *end == '\\' && end[1] ? 2 : 1;
        if (!*end)
            return 0;
        p = end + 1;
        p += strspn(p, " \t\r\n");
        if (*p == ':' && end - begin == length && !strncmp(begin, key, length)) {
            p++;
            p += strspn(p, " \t\r\n");
            if (*p == '"')
                for (p++; *p && *p != '"' && *p != '\\' && n + 1 < size; p++)
                    value[n++] = *p;
            else
                for (; strchr("+-.eE0123456789", *p) && *p && n + 1 < size; p++)
                    value[n++] = *p;
            value[n] = 0;
            return n > 0;
        }
        p = strchr(p, '"');
    }
    return 0;
}

static int json_int(const char *json, const char *key, int fallback)
{
    char value[32];

    return json_value(json, key, value, sizeof(value)) ? atoi(value) : fallback;
}

/* A container names a model as python/tds/container/metadata.py has it: by a plain name. Anything
 * that tds_model_find() would take for a file is refused, or a video could say what code is run. */
static int is_plain_name(const char *name)
{
    static const char characters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                     "._-";
    static const char *const files[] = { ".pt", ".ts", ".safetensors" };
    const size_t length = strlen(name);

    if (!length || length > MAX_MODEL_NAME || strspn(name, characters) != length ||
        strchr("._-", name[0]))
        return 0;
    for (int i = 0; i < FF_ARRAY_ELEMS(files); i++) {
        const size_t end = strlen(files[i]);

        if (length >= end && !strcmp(name + length - end, files[i]))
            return 0;
    }
    return 1;
}

/* Takes what the program knows about one input, "PAD START DURATION TAG": the cut of it, which is
 * left to this filter since frames outside are references, and the container's tag. A command and
 * no options, so that what the user gives stays apart from it. */
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
    av_freep(&source->tag);
    end += strspn(end, " ");
    if (*end && !(source->tag = av_strdup(end)))
        return AVERROR(ENOMEM);
    return 0;
}

/* The cut and the tag: the user's; else those of the HR input, which say what is asked of the
 * whole, also where the two inputs are two files; else those of the LR input. */
static av_cold void settle_source(AVFilterContext *ctx)
{
    TDSEnhanceContext *s = ctx->priv;
    const Source *hr = &s->sources[s->pad_of[TDS_HR]];
    const Source *lr = s->pad_of[TDS_LR] < 0 ? hr : &s->sources[s->pad_of[TDS_LR]];
    const Source *cut = hr->known ? hr : lr;

    s->start  = s->start_time;
    s->length = s->max_duration;
    if (cut->known && s->start == INT64_MIN && cut->start != AV_NOPTS_VALUE)
        s->start = cut->start;
    if (cut->known && s->length <= 0 && cut->duration != INT64_MAX)
        s->length = cut->duration;
    s->tag = s->container ? s->container : hr->tag ? hr->tag : lr->tag ? lr->tag : "";
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

/* A QP as the container's tag gives it; -1, not known, for what is none. */
static int tag_qp(const TDSEnhanceContext *s, const char *key)
{
    const int qp = json_int(s->tag, key, -1);

    return qp >= 0 && qp <= 63 ? qp : -1;
}

static av_cold int open_engine(AVFilterContext *ctx, const char *backend, const char *model,
                               const char *sha256, const char *device,
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
    settings.backend          = backend;
    settings.model            = model;
    settings.model_sha256     = sha256;
    settings.device           = device;
    settings.precision        = precision_names[s->precision];
    settings.threads          = ff_filter_get_nb_threads(ctx);
    settings.max_batch        = s->max_batch;
    settings.hr_qp            = s->hr_qp >= 0 ? s->hr_qp : tag_qp(s, "hr_qp");
    settings.lr_qp            = s->lr_qp >= 0 ? s->lr_qp : tag_qp(s, "lr_qp");
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

/* The container names a model by the hash of its weights, as a hint: another version of it works,
 * but not as the encoder had seen it. */
static av_cold void check_named_model(AVFilterContext *ctx, const char *path)
{
    TDSEnhanceContext *s = ctx->priv;
    char wanted[128], there[128];
    char *json = NULL;

    if (!json_value(s->tag, "model_sha256", wanted, sizeof(wanted)) ||
        tds_model_metadata(path, &json) != TDS_OK)
        return;
    if (json_value(json, "weights_sha256", there, sizeof(there)) && strcmp(there, wanted))
        av_log(ctx, AV_LOG_WARNING, "%s is another version of the model than the one the video "
               "was made for; the result may differ.\n", path);
    tds_free(json);
}

static av_cold int open_bicubic(AVFilterContext *ctx, enum AVPixelFormat sw_format)
{
    int ret;

    if (is_cuda(ctx->priv)) {
        av_log(ctx, AV_LOG_ERROR, "Without a model tds_enhance works on frames in host memory; put "
               "hwdownload,format=%s before it.\n", av_get_pix_fmt_name(sw_format));
        return AVERROR(ENOSYS);
    }
    ret = open_engine(ctx, "bicubic", NULL, NULL, "cpu", sw_format);
    if (ret < 0)
        av_log(ctx, AV_LOG_ERROR, "%s\n", tds_last_error());
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
    const char *name = s->model, *sha256 = s->model_sha256;
    const char *device = s->device;
    const int cuda_number = !strncmp(device, "cuda", 4) && av_isdigit(device[4]);
    char device_name[32], path[4096], in_container[128];
    tds_info info;
    int ret;

    /* cudaN spares the escape that cuda:N needs in a filter description. */
    if (cuda_number) {
        snprintf(device_name, sizeof(device_name), "cuda:%.16s", device + 4);
        device = device_name;
    } else if (is_cuda(s) && !strcmp(device, "auto")) {
        snprintf(device_name, sizeof(device_name), "cuda:%d", s->cuda_index);
        device = device_name;
    }

    if (s->backend == BACKEND_BICUBIC || s->pad_of[TDS_LR] < 0) {
        /* HR alone passes, and needs no model for it. */
        ret = open_bicubic(ctx, sw_format);
    } else {
        tds_result found;

        if (!name && json_value(s->tag, "model", in_container, sizeof(in_container))) {
            if (is_plain_name(in_container))
                name = in_container;
            else
                av_log(ctx, AV_LOG_WARNING, "What the container's tag gives as the model is no "
                       "plain name, and is ignored.\n");
        }
        found = tds_model_find(name, s->scale, device, path, sizeof(path));
        if (found < 0 && name == in_container) {
            av_log(ctx, AV_LOG_WARNING, "The video was made for the model %s, which is not "
                   "installed; another one is tried.\n", name);
            found = tds_model_find(NULL, s->scale, device, path, sizeof(path));
        } else if (found == TDS_OK && name == in_container)
            check_named_model(ctx, path);
        ret = found < 0 ? tds_averror(found)
                        : open_engine(ctx, backend_names[s->backend], path, sha256, device,
                                      sw_format);
        if (ret < 0 && !forgiving)
            av_log(ctx, AV_LOG_ERROR, "%s\n", tds_last_error());
        else if (ret < 0) {
            if (is_cuda(s)) /* what to do about it, open_bicubic says */
                av_log(ctx, AV_LOG_ERROR, "%s\n", tds_last_error());
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
    char in_container[64];
    int ret;

    ret = find_roles(ctx);
    if (ret < 0)
        return ret;
    settle_source(ctx);
    hr = ctx->inputs[s->pad_of[TDS_HR]];
    lr = s->pad_of[TDS_LR] < 0 ? hr : ctx->inputs[s->pad_of[TDS_LR]];
    if (hr != lr && s->scale == 1 && json_int(s->tag, "scale", 0) != 1)
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
    switch (sw_format) {
    case AV_PIX_FMT_YUV420P:
    case AV_PIX_FMT_YUVJ420P:
    case AV_PIX_FMT_NV12:
        s->bit_depth = 8;
        break;
    case AV_PIX_FMT_YUV420P10LE:
    case AV_PIX_FMT_P010LE:
        s->bit_depth = 10;
        break;
    default:
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
    } else if (json_value(s->tag, "rate", in_container, sizeof(in_container)) &&
               av_parse_video_rate(&s->rate, in_container) < 0) {
        av_log(ctx, AV_LOG_WARNING, "The container gives the rate as '%s'; taken from the time "
               "stamps instead.\n", in_container);
        s->rate = (AVRational){ 0, 1 };
    }
    s->rate_given = s->rate.num > 0;
    outl->frame_rate  = s->rate.num > 0 ? s->rate : (AVRational){ 1, 0 };
    if (s->rate.num > 0)
        use_rate(ctx, s->rate);

    s->seeking     = s->start != INT64_MIN;
    s->skip_before = INT64_MIN;

    /* Format negotiation may configure a link again. */
    tds_session_close(s->session);
    s->session = NULL;
    ret = open_session(ctx, sw_format);
    if (ret < 0)
        return ret;
    if (s->pad_of[TDS_LR] < 0) {
        s->ended[TDS_LR] = 1;
        tds_session_send(s->session, TDS_LR, NULL);
    }
    av_log(ctx, AV_LOG_VERBOSE, "HR %dx%d on input %d, LR %dx%d on input %d, k=%d, %d bit\n",
           hr->w, hr->h, s->pad_of[TDS_HR], lr->w, lr->h, s->pad_of[TDS_LR], s->scale,
           s->bit_depth);
    return 0;
}

static int query_formats(const AVFilterContext *ctx, AVFilterFormatsConfig **cfg_in,
                         AVFilterFormatsConfig **cfg_out)
{
    static const enum AVPixelFormat formats[] = {
        AV_PIX_FMT_YUV420P, AV_PIX_FMT_YUVJ420P, AV_PIX_FMT_NV12,
        AV_PIX_FMT_YUV420P10LE, AV_PIX_FMT_P010LE,
        AV_PIX_FMT_CUDA,
        AV_PIX_FMT_NONE
    };
    AVFilterFormats *spaces = ff_all_color_spaces();
    AVFilterFormats *ranges = ff_all_color_ranges();
    int ret;

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
        s->known[i] = av_fifo_alloc2(16, sizeof(AVFrame *), AV_FIFO_FLAG_AUTO_GROW);
        if (!s->known[i])
            return AVERROR(ENOMEM);
    }
    s->held = av_fifo_alloc2(RATE_PICTURES, sizeof(AVFrame *), AV_FIFO_FLAG_AUTO_GROW);
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
        waiting += s->known[i] ? av_fifo_can_read(s->known[i]) : 0;
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
    }
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

#define DESCRIPTION NULL_IF_CONFIG_SMALL("Rebuild a TDS video: key frames at full size and small " \
                                         "frames between them become one video.")

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
