/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Pairs two raw 8-bit 4:2:0 files of a TDS video in groups of N frames, both
 * ends HR (0 and 4, 5 and 9, ...), and writes the whole video.
 *
 *     cc enhance.c -o enhance $(pkg-config --cflags --libs tds)
 *     ./enhance 1920 1080 2 5 hr.yuv lr.yuv out.yuv [model.pt]
 */
#include <stdio.h>
#include <stdlib.h>
#include <tds/tds.h>

static int width, height, scale, group;
static FILE *files[2], *out;

/* Sends the next picture of a stream, or its end. */
static tds_result send_next(tds_session *session, tds_role role, long index) {
    const int w = role == TDS_HR ? width : tds_lr_size(width, scale);
    const int h = role == TDS_HR ? height : tds_lr_size(height, scale);
    const long inner = role == TDS_HR ? 2 : group - 2; /* pictures of a group in this stream */
    const size_t size = (size_t)w * (size_t)h;
    unsigned char *samples = malloc(size * 3 / 2);
    tds_picture p;
    if (!samples || fread(samples, 1, size * 3 / 2, files[role]) != size * 3 / 2) {
        free(samples);
        return tds_session_send(session, role, NULL);
    }
    tds_picture_init(&p);
    p.width = w;
    p.height = h;
    p.data[0] = samples;
    p.data[1] = samples + size;
    p.data[2] = samples + size * 5 / 4;
    p.stride[0] = w;
    p.stride[1] = p.stride[2] = w / 2;
    p.pts = index / inner * group + (role == TDS_HR ? index % 2 * (group - 1) : 1 + index % inner);
    p.owner = samples;
    p.release = free; /* the engine takes the samples over: no copy */
    return tds_session_send(session, role, &p);
}

static void write_picture(const tds_picture *p) {
    for (int i = 0; i < 3; i++)
        for (int y = 0; y < (i ? p->height / 2 : p->height); y++)
            fwrite((char *)p->data[i] + y * p->stride[i], 1, (size_t)(i ? p->width / 2 : p->width),
                   out);
}

int main(int argc, char **argv) {
    tds_settings settings;
    tds_session *session;
    tds_picture picture;
    tds_result result;
    long sent[2] = {0, 0};
    if (argc < 8 || !(files[TDS_HR] = fopen(argv[5], "rb")) ||
        !(files[TDS_LR] = fopen(argv[6], "rb")) || !(out = fopen(argv[7], "wb"))) {
        fprintf(stderr, "usage: %s WIDTH HEIGHT K GROUP HR LR OUT [MODEL]\n", argv[0]);
        return 2;
    }
    width = atoi(argv[1]), height = atoi(argv[2]), scale = atoi(argv[3]), group = atoi(argv[4]);
    tds_default_settings(&settings);
    settings.width = width, settings.height = height, settings.scale = scale;
    settings.model = argc > 8 ? argv[8] : NULL; /* none: bicubic */
    if (tds_session_open(&settings, &session) < 0)
        return fprintf(stderr, "%s\n", tds_last_error()), 1;
    while ((result = tds_session_receive(session, &picture)) >= 0 && result != TDS_END) {
        if (result == TDS_OK) {
            write_picture(&picture);
            tds_picture_release(&picture);
            continue;
        }
        for (int role = TDS_HR; role <= TDS_LR; role++) /* again: send what it needs */
            if (tds_session_wants(session) & 1U << role &&
                (result = send_next(session, role, sent[role]++)) < 0)
                return fprintf(stderr, "%s\n", tds_last_error()), 1;
    }
    if (result < 0)
        fprintf(stderr, "%s\n", tds_last_error());
    tds_session_close(session);
    return result < 0 || fclose(out) ? 1 : 0;
}
