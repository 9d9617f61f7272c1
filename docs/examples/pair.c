/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Rebuilds a TDS video for a program that has a demuxer and decoders of its own: it has the
 * pictures of both tracks, their times, and the tag, and does with them what tds decode and the
 * FFmpeg filter do, also when the file was cut, remuxed or lost pictures. FFmpeg stands for that
 * program:
 *
 *     for track in 0 1; do
 *         ffmpeg -copyts -i x.mp4 -map 0:v:$track -fps_mode passthrough $track.yuv \
 *             -map 0:v:$track -fps_mode passthrough -enc_time_base filter -f framecrc $track.txt
 *     done
 *     ffprobe -v error -show_entries format_tags=tds -of default=nw=1:nk=1 x.mp4 > tag.json
 *
 *     lib=$(pkg-config --variable=libdir tds)
 *     cc pair.c -o pair $(pkg-config --cflags --libs tds) -Wl,-rpath,$lib
 *     ./pair 0.yuv 0.txt 1.yuv 1.txt tag.json out.yuv [MODEL]
 *
 * HR comes first, then LR; `-` in place of the tag: there is none. MODEL: a name, a file, or
 * bicubic; without it the model is the one that the tag names. 8-bit 4:2:0 in and out.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tds/tds.h>

typedef struct track {
    FILE *pictures;
    int width, height;
    tds_rational clock; /* seconds a tick */
    int64_t *times;
    size_t count, pushed; /* times, and those that tds_times has */
} track;

static track tracks[2]; /* by tds_role */
static tds_tag *tag;
static tds_tag_values plan;
static tds_times *times;
static tds_session *session;
static int strengths; /* whether those of the tag hold */
static char tag_text[TDS_MAX_TAG + 1];

static void fail(const char *what, const char *why) {
    fprintf(stderr, "pair: %s: %s\n", what, why);
    exit(1);
}

static FILE *opened(const char *path, const char *mode) {
    FILE *file = fopen(path, mode);
    if (!file)
        perror(path), exit(1);
    return file;
}

static void *grown(void *memory, size_t size) {
    void *larger = realloc(memory, size);
    if (!larger)
        perror("pair"), exit(1);
    return larger;
}

static void check(const char *what, tds_result result) {
    if (result < 0)
        fail(what, tds_last_error());
}

/* Two whole numbers with a character between them: "1/1000", "128x72", "0, 40". */
static int read_two(const char *text, int64_t *first, int64_t *second) {
    char *end;
    *first = strtoll(text, &end, 10);
    if (end == text || !*end)
        return 0;
    text = end + 1;
    *second = strtoll(text, &end, 10);
    return end != text;
}

/* The size and the times of a track, as `-f framecrc` writes them. */
static void read_times(track *t, const char *path) {
    FILE *file = opened(path, "r");
    char line[256];
    int64_t a, b;
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, "#tb 0: ", 7) && read_two(line + 7, &a, &b))
            t->clock.num = (int32_t)a, t->clock.den = (int32_t)b;
        else if (!strncmp(line, "#dimensions 0: ", 15) && read_two(line + 15, &a, &b))
            t->width = (int)a, t->height = (int)b;
        else if (!strncmp(line, "0, ", 3) && read_two(line + 3, &a, &b)) {
            if (t->count % 1024 == 0)
                t->times = grown(t->times, (t->count + 1024) * sizeof *t->times);
            t->times[t->count++] = b; /* a: when it was decoded */
        }
    fclose(file);
    if (t->width <= 0 || t->height <= 0 || t->clock.num <= 0 || t->clock.den <= 0)
        fail(path, "this is no list of ffmpeg -f framecrc");
}

/* Sends the next decoded picture of a track. */
static tds_result send_picture(tds_role role, const tds_event *event) {
    const int w = tracks[role].width, h = tracks[role].height;
    const size_t size = (size_t)w * (size_t)h;
    tds_picture p;
    tds_picture_init(&p);
    p.owner = grown(NULL, size * 3 / 2);
    p.release = free; /* the engine takes the samples over: no copy */
    if (fread(p.owner, 1, size * 3 / 2, tracks[role].pictures) != size * 3 / 2)
        fail(role == TDS_HR ? "HR" : "LR", "there are more times than pictures");
    p.width = w, p.height = h, p.stride[0] = w, p.stride[1] = p.stride[2] = w / 2;
    p.data[0] = p.owner;
    p.data[1] = (char *)p.owner + size, p.data[2] = (char *)p.owner + size * 5 / 4;
    p.pts = event->pts;
    if (strengths)
        p.strength = event->strength;
    const tds_result result = tds_session_send(session, role, &p);
    if (result != TDS_OK)
        tds_picture_release(&p); /* not taken: still ours */
    return result;
}

/* Gives the session the next of one stream. tds_times says what that is: the next picture, where it
 * belongs in time, that one was lost, or the end. It may have to see more of a track before; a
 * player decodes then, and holds the pictures until they come out. */
static void feed(tds_role role) {
    tds_event event;
    tds_result result;
    while ((result = tds_times_next(times, role, &event)) == TDS_AGAIN)
        for (int r = TDS_HR; r <= TDS_LR; r++)
            if (tds_times_wants(times, role) & 1U << r) {
                track *t = &tracks[r];
                check("times", t->pushed < t->count
                                   ? tds_times_push(times, r, t->times[t->pushed++])
                                   : tds_times_end(times, r));
            }
    if (result == TDS_END)
        result = tds_session_send(session, role, NULL);
    else if (result == TDS_OK && event.kind == TDS_EVENT_LOST)
        result = tds_session_send_lost(session, role, event.pts);
    else if (result == TDS_OK)
        result = send_picture(role, &event);
    check("session", result);
}

int main(int argc, char **argv) {
    if (argc < 7) {
        fprintf(stderr, "usage: %s HR HR-TIMES LR LR-TIMES TAG OUT [MODEL]; TAG may be -\n",
                argv[0]);
        return 2;
    }
    for (int role = TDS_HR; role <= TDS_LR; role++) {
        tracks[role].pictures = opened(argv[1 + 2 * role], "rb");
        read_times(&tracks[role], argv[2 + 2 * role]);
    }
    const track *hr = &tracks[TDS_HR], *lr = &tracks[TDS_LR];
    if (hr->clock.num != lr->clock.num || hr->clock.den != lr->clock.den)
        fail(argv[4], "its times have another unit than those of HR; take both from one file");

    if (strcmp(argv[5], "-") != 0) {
        FILE *file = opened(argv[5], "rb");
        check("tag",
              tds_tag_parse(tag_text, fread(tag_text, 1, sizeof tag_text, file), argv[5], &tag));
        check("tag", tds_tag_read(tag, &plan));
        fclose(file);
    }

    tds_times_settings timing = {.tag = tag, .unit = hr->clock, .clock = {hr->clock, lr->clock}};
    check("times", tds_times_open(&timing, &times));

    tds_settings settings;
    tds_default_settings(&settings);
    settings.width = hr->width, settings.height = hr->height;
    settings.scale = tds_scale_of(hr->width, hr->height, lr->width, lr->height);
    if (!settings.scale || (tag && settings.scale != plan.scale))
        fail(argv[3], "its size is not that of the LR track of this HR track and tag");
    if (tag)
        settings.hr_qp = plan.hr_qp, settings.lr_qp = plan.lr_qp;
    const char *model = argc > 7 ? argv[7] : NULL;
    if (!model || strcmp(model, "bicubic") != 0) {
        static tds_model_choice choice;
        const tds_model_request request = {
            .model = model, .tag = tag, .scale = settings.scale, .refine_hr = plan.refine_hr};
        check("model", tds_model_choose(&request, &choice));
        fputs(choice.notices, stderr);
        settings.model = choice.path;
        settings.hr_model = choice.hr_path[0] ? choice.hr_path : NULL;
        strengths = choice.of_tag; /* they were measured with the model that the tag names */
    }
    check("session", tds_session_open(&settings, &session));

    FILE *out = opened(argv[6], "wb");
    int64_t first[TDS_RATE_PICTURES];
    size_t frames = 0;
    tds_picture p;
    tds_result result;
    while ((result = tds_session_receive(session, &p)) == TDS_OK || result == TDS_AGAIN)
        if (result == TDS_OK) {
            if (frames < TDS_RATE_PICTURES)
                first[frames] = p.pts;
            frames++;
            for (int i = 0; i < 3; i++)
                for (int y = 0; y < (i ? p.height / 2 : p.height); y++)
                    fwrite((char *)p.data[i] + y * p.stride[i], 1,
                           (size_t)(i ? p.width / 2 : p.width), out);
            tds_picture_release(&p);
        } else
            for (int role = TDS_HR; role <= TDS_LR; role++)
                if (tds_session_wants(session) & 1U << role)
                    feed((tds_role)role);
    check("session", result);

    tds_rational rate;
    tds_info info;
    check("rate", tds_frame_rate(first, frames < TDS_RATE_PICTURES ? frames : TDS_RATE_PICTURES,
                                 hr->clock, &rate));
    check("session", tds_session_info(session, &info));
    fputs(tds_times_notices(times), stderr);
    printf("%zu frames, %" PRId32 "/%" PRId32 " a second, %s\n", frames, rate.num, rate.den,
           info.model_name[0] ? info.model_name : info.backend);
    tds_session_close(session);
    tds_times_close(times);
    tds_tag_free(tag);
    for (int role = TDS_HR; role <= TDS_LR; role++) {
        free(tracks[role].times);
        fclose(tracks[role].pictures);
    }
    return ferror(out) || fclose(out);
}
