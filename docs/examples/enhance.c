/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Pairs two raw 8-bit 4:2:0 files of a TDS video in groups of N frames (odd), both ends HR (0 and
 * 4, 5 and 9, ...), and writes the whole video.
 *
 *     lib=$(pkg-config --variable=libdir tds)
 *     cc enhance.c -o enhance $(pkg-config --cflags --libs tds) -Wl,-rpath,$lib
 *     ./enhance 1920 1080 2 5 hr.yuv lr.yuv out.yuv [model.pt]
 */
#include <stdio.h>
#include <stdlib.h>
#include <tds/tds.h>

static tds_settings video; /* its size and k */
static int group;
static FILE *in[2], *out;

/* Sends picture i of a stream, or its end. */
static tds_result send_picture(tds_session *session, int role, long i) {
    const int hr = role == TDS_HR, inner = hr ? 2 : group - 2; /* pictures of a group in it */
    const int w = hr ? video.width : tds_lr_size(video.width, video.scale);
    const int h = hr ? video.height : tds_lr_size(video.height, video.scale);
    const size_t size = (size_t)w * (size_t)h;
    tds_picture p;
    tds_picture_init(&p);
    if (!(p.owner = malloc(size * 3 / 2)))
        perror("enhance"), exit(1);
    p.release = free; /* the engine takes the samples over: no copy */
    const int more = fread(p.owner, 1, size * 3 / 2, in[role]) == size * 3 / 2;
    p.width = w, p.height = h, p.stride[0] = w, p.stride[1] = p.stride[2] = w / 2;
    p.data[0] = p.owner;
    p.data[1] = (char *)p.owner + size, p.data[2] = (char *)p.owner + size * 5 / 4;
    p.pts = i / inner * group + (hr ? i % 2 * (group - 1) : 1 + i % inner);
    const tds_result result = tds_session_send(session, role, more ? &p : NULL);
    if (!more || result != TDS_OK)
        tds_picture_release(&p); /* not taken: still ours */
    return result;
}

int main(int argc, char **argv) {
    tds_session *session;
    tds_picture p;
    tds_result result;
    long sent[2] = {0, 0};
    tds_default_settings(&video);
    if (argc < 8 || (group = atoi(argv[4])) < 3 || group % 2 == 0 ||
        !(in[TDS_HR] = fopen(argv[5], "rb")) || !(in[TDS_LR] = fopen(argv[6], "rb")) ||
        !(out = fopen(argv[7], "wb"))) {
        fprintf(stderr, "usage: %s WIDTH HEIGHT K GROUP HR LR OUT [MODEL]; GROUP is odd\n",
                argv[0]);
        return 2;
    }
    video.width = atoi(argv[1]), video.height = atoi(argv[2]), video.scale = atoi(argv[3]);
    video.model = argc > 8 ? argv[8] : NULL; /* none: bicubic */
    result = tds_session_open(&video, &session);
    while (result >= 0 && (result = tds_session_receive(session, &p)) != TDS_END)
        if (result == TDS_OK) {
            for (int i = 0; i < 3; i++)
                for (int y = 0; y < (i ? p.height / 2 : p.height); y++)
                    fwrite((char *)p.data[i] + y * p.stride[i], 1,
                           (size_t)(i ? p.width / 2 : p.width), out);
            tds_picture_release(&p);
        } else /* again: send what it needs */
            for (int role = TDS_HR; role <= TDS_LR && result >= 0; role++)
                if (tds_session_wants(session) & 1U << role)
                    result = send_picture(session, role, sent[role]++);
    if (result < 0)
        fprintf(stderr, "%s\n", tds_last_error());
    tds_session_close(session);
    return result < 0 || ferror(out) || fclose(out);
}
