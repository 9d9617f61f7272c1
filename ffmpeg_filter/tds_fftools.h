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
 * What the program ffmpeg does for the filter tds_enhance: a simple graph may have several inputs,
 * which are the file's video streams; with one video stream the filter gets one input; the filter
 * is told the cut and the container's tag. The same for all versions of FFmpeg: the patches only
 * call it. ffmpeg_filter.c defines TDS_GRAPH_DESC(fg), a graph's description, and
 * TDS_INPUT_TYPE(ifilter), the kind of an input, and gets all of it; other files get what they
 * share.
 */

#ifndef FFTOOLS_TDS_FFTOOLS_H
#define FFTOOLS_TDS_FFTOOLS_H

#include "ffmpeg.h"

#include "libavformat/avformat.h"
#include "libavutil/dict.h"

/* Whether tds_enhance is in a graph. */
int tds_in_graph(const FilterGraph *fg);

/* A cover picture is taken for a video only if there is nothing else: the better of the best stream
 * so far and the next one. */
static inline InputStream *tds_better(InputStream *best, InputStream *ist)
{
    return best && !(best->st->disposition & AV_DISPOSITION_ATTACHED_PIC) ? best :
           best && (ist->st->disposition & AV_DISPOSITION_ATTACHED_PIC)   ? best : ist;
}

/* Takes the tag of the inputs out of an output's metadata, where one of its streams is of
 * tds_enhance: it describes the two streams that are one here. */
static inline void tds_drop_tag(const OutputFile *of, AVDictionary **metadata)
{
    for (int i = 0; i < of->nb_streams; i++) {
        const OutputStream *ost = of->streams[i];

        if (ost->filter && tds_in_graph(ost->filter->graph))
            av_dict_set(metadata, "tds", NULL, 0);
    }
}

#endif /* FFTOOLS_TDS_FFTOOLS_H */

#if defined(TDS_GRAPH_DESC) && !defined(FFTOOLS_TDS_FFTOOLS_FILTER)
#define FFTOOLS_TDS_FFTOOLS_FILTER

#include <string.h>

#include "libavfilter/avfilter.h"
#include "libavformat/avio.h"
#include "libavutil/avstring.h"
#include "libavutil/base64.h"
#include "libavutil/bprint.h"
#include "libavutil/log.h"
#include "libavutil/mathematics.h"
#include "libavutil/mem.h"

static int ifilter_bind_ist(InputFilter *ifilter, InputStream *ist, const ViewSpecifier *vs);

/* Not 0 while the simple graph that is made is for a file of one video stream. Graphs are made by
 * one thread; a graph keeps it in `opaque`, where each time it is parsed finds it. */
static int tds_one_video;
static const char tds_one_video_mark;

int tds_in_graph(const FilterGraph *fg)
{
    return !!strstr(TDS_GRAPH_DESC(fg), "tds_enhance");
}

/* The next video stream of a file from *next on, but not `except`; NULL: there is no more. */
static InputStream *tds_next_video(const InputFile *file, const InputStream *except, int *next)
{
    while (*next < file->nb_streams) {
        InputStream *ist = file->streams[(*next)++];

        if (ist && ist != except && ist->par->codec_type == AVMEDIA_TYPE_VIDEO &&
            ist->user_set_discard != AVDISCARD_ALL &&
            !(ist->st->disposition & AV_DISPOSITION_ATTACHED_PIC))
            return ist;
    }
    return NULL;
}

/* To be called before a simple graph for this stream is made, and with NULL after it. */
static void tds_look_for_one_video(const InputStream *ist)
{
    int next = 0;

    tds_one_video = ist && ist->par->codec_type == AVMEDIA_TYPE_VIDEO &&
                    !tds_next_video(ist->file, ist, &next);
}

static void *tds_mark(int one_video)
{
    return one_video ? (void *)&tds_one_video_mark : NULL;
}

/* Gives tds_enhance one input where there is one video and nobody said how many. To be called
 * when the graph's filters exist and have no options yet. */
static int tds_set_inputs(const AVFilterGraph *graph, AVFilterGraphSegment *segment)
{
    if (graph->opaque != &tds_one_video_mark)
        return 0;
    for (size_t i = 0; i < segment->nb_chains; i++)
        for (size_t j = 0; j < segment->chains[i]->nb_filters; j++) {
            AVFilterParams *params = segment->chains[i]->filters[j];
            int ret;

            if (!params->filter || strcmp(params->filter->filter->name, "tds_enhance") ||
                av_dict_get(params->opts, "inputs", NULL, 0))
                continue;
            ret = av_dict_set(&params->opts, "inputs", "1", 0);
            if (ret < 0)
                return ret;
        }
    return 0;
}

/* What to add when there is no stream for an input of this filter. */
static const char *tds_hint(const InputFilter *ifilter)
{
    return av_strstart((const char *)ifilter->name, "tds_enhance", NULL) ?
           " If this is no TDS file, tds_enhance=inputs=1 enhances one video." : "";
}

/* Binds the inputs of a simple graph beyond the first to the other video streams of the same file,
 * in their order. */
static int tds_bind_further(FilterGraph *fg, InputStream *first)
{
    InputFile *file = first->file;
    int next = 0;

    for (int i = 1; i < fg->nb_inputs; i++) {
        InputStream *ist = tds_next_video(file, first, &next);
        int ret;

        if (!ist || TDS_INPUT_TYPE(fg->inputs[i]) != AVMEDIA_TYPE_VIDEO) {
            av_log(fg, AV_LOG_ERROR, "The filtergraph '%s' has %d inputs, but input file %d "
                   "has no more video streams to feed them. If the streams are in several "
                   "files, use -filter_complex.%s\n",
                   TDS_GRAPH_DESC(fg), fg->nb_inputs, file->index, tds_hint(fg->inputs[i]));
            return AVERROR(EINVAL);
        }
        av_log(fg, AV_LOG_VERBOSE, "Binding input %d to input stream %d:%d\n",
               i, file->index, ist->index);
        ret = ifilter_bind_ist(fg->inputs[i], ist, NULL);
        if (ret < 0)
            return ret;
    }
    return 0;
}

/* Whether an input of tds_enhance is left without a stream rather than given a cover. */
static int tds_refuses(const InputFilter *ifilter, const InputStream *ist)
{
    return *tds_hint(ifilter) && (ist->st->disposition & AV_DISPOSITION_ATTACHED_PIC);
}

/* The tag in an HLS or DASH manifest, which FFmpeg's demuxers pass over (docs/streaming.md): base64
 * in an attribute. It is read once more by what the demuxer read it by, with the user's options
 * (-headers and the like). NULL: there is none. */
static char *tds_manifest_tag(const AVFormatContext *file)
{
    static const char *const marks[] = { "DATA-ID=\"tds\",VALUE=\"",
                                         "schemeIdUri=\"urn:tds:tag\" value=\"" };
    AVBPrint text;
    char *tag = NULL;

    if ((strcmp(file->iformat->name, "hls") && strcmp(file->iformat->name, "dash")) ||
        !file->pb || avio_seek(file->pb, 0, SEEK_SET) < 0)
        return NULL;
    av_bprint_init(&text, 0, 1 << 26);
    avio_read_to_bprint(file->pb, &text, 1 << 25);
    for (size_t i = 0; i < FF_ARRAY_ELEMS(marks) && !tag; i++) {
        char *begin = strstr(text.str, marks[i]);
        size_t size;

        if (!begin)
            continue;
        begin += strlen(marks[i]);
        size = strcspn(begin, "\"");
        begin[size] = 0;
        tag = av_mallocz(AV_BASE64_DECODE_SIZE(size) + 1);
        if (tag && av_base64_decode((uint8_t *)tag, begin, AV_BASE64_DECODE_SIZE(size)) < 0)
            av_freep(&tag);
    }
    av_bprint_finalize(&text, NULL);
    return tag;
}

/* What is known about a stream's file, for tds_tell(): microseconds that are added to its times,
 * the first one, how long it is, and its tag. NULL: out of memory. */
static char *tds_known(const InputStream *ist)
{
    const AVFormatContext *file  = ist->file->ctx;
    const AVDictionaryEntry *tag = av_dict_get(file->metadata, "tds", NULL, 0);
    const AVStream *st           = ist->st;
    char *told     = tag ? NULL : tds_manifest_tag(file);
    char *known;
    int64_t first  = st->start_time == AV_NOPTS_VALUE ? file->start_time :
                     av_rescale_q(st->start_time, st->time_base, AV_TIME_BASE_Q);
    int64_t length = st->duration == AV_NOPTS_VALUE ? file->duration :
                     av_rescale_q(st->duration, st->time_base, AV_TIME_BASE_Q);

    known = av_asprintf("%"PRId64" %"PRId64" %"PRId64" %s", ist->file->ts_offset, first, length,
                        tag ? tag->value : told ? told : "");
    av_free(told);
    return known;
}

/* The tds_enhance, and its input, that an input's frames get to by way of filters that have no
 * other. */
static AVFilterContext *tds_find(const AVFilterInOut *in, int *pad)
{
    AVFilterContext *filter = in->filter_ctx;

    *pad = in->pad_idx;
    while (strcmp(filter->filter->name, "tds_enhance")) {
        const AVFilterLink *link = filter->nb_inputs == 1 && filter->nb_outputs == 1 ?
                                   filter->outputs[0] : NULL;

        if (!link)
            return NULL;
        filter = link->dst;
        for (*pad = 0; filter->inputs[*pad] != link;)
            ++*pad;
    }
    return filter;
}

/* Tells tds_enhance what nobody else can: the cut, since frames before the start and after the end
 * are references of those between, and what the container says. 1: it was told; 0: these frames
 * do not get to one. */
static int tds_tell(const AVFilterInOut *in, int64_t start, int64_t duration, const char *known)
{
    int pad, ret;
    AVFilterContext *tds = tds_find(in, &pad);
    char *text;

    if (!tds)
        return 0;
    text = av_asprintf("%d %"PRId64" %"PRId64" %s", pad, start, duration, known ? known : "0 0 0 ");
    if (!text)
        return AVERROR(ENOMEM);
    ret = avfilter_process_command(tds, "input", text, NULL, 0, 0);
    av_free(text);
    return ret < 0 ? ret : 1;
}

#endif /* TDS_GRAPH_DESC */
