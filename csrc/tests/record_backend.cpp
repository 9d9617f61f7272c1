// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A backend of its own, loaded as any other is (TDS_BACKEND_PATH), that writes
// down what it is asked for. Its pictures are the target's first luma sample
// everywhere, so a test sees which picture is which.
#include "tests/record_backend.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

Record record;

struct Handle {
    int64_t pts;
};

std::string pts_of(const void *handle) {
    return handle ? std::to_string(static_cast<const Handle *>(handle)->pts) : "-";
}

std::string number(const char *format, float value) {
    char text[32];
    std::snprintf(text, sizeof(text), format, static_cast<double>(value));
    return text;
}

struct Instance {
    int32_t contract, references;
};

tds_result devices(char *buffer, size_t size, tds_backend_error *) {
    std::snprintf(buffer, size, "cpu");
    return TDS_OK;
}

tds_result open(const tds_backend_config *config, void **instance, tds_backend_traits *traits,
                tds_backend_error *) {
    *instance = new Instance{config->model->contract, config->model->references};
    traits->references = config->model->references;
    traits->prepares_targets = config->model->contract == 2;
    traits->runs_without_reference = config->model->no_reference;
    std::snprintf(traits->device, sizeof(traits->device), "cpu");
    std::snprintf(traits->precision, sizeof(traits->precision), "float32");
    return TDS_OK;
}

void close(void *instance) {
    delete static_cast<Instance *>(instance);
}

tds_result prepare(void *, const tds_picture *picture, const tds_backend_facts *facts,
                   void **handle, tds_backend_error *) {
    record.log += "P" + std::to_string(picture->pts) + (facts->enhanced ? "h " : " ");
    record.handles++;
    *handle = new Handle{picture->pts};
    return TDS_OK;
}

void drop(void *, void *handle) {
    record.handles--;
    delete static_cast<Handle *>(handle);
}

// The references of a job, as record_backend.h shows them.
std::string references(const Instance &instance, const tds_backend_job &job) {
    if (instance.contract == 1) {
        return "(" + pts_of(job.references[0]) + "," + pts_of(job.references[1]) + "@" +
               number("%.2f", job.position) + ")";
    }
    std::string out;
    for (int32_t r = 0; r < instance.references; r++) {
        const float *side = job.side[1 + r];
        out += (r ? "," : "(") + pts_of(job.references[r]);
        out += side[0] != 0.0F ? number("%+.0f", side[1]) : "";
    }
    const float strength = job.side[0][6];
    return out + ")" + (strength != 1.0F ? number("*%.2f", strength) : "");
}

void fill(const tds_picture &out, int value) {
    for (int32_t y = 0; y < out.height; y++) {
        std::memset(static_cast<uint8_t *>(out.data[0]) + y * out.stride[0], value,
                    static_cast<size_t>(out.width));
    }
}

// Chroma that is 10 more than the target's first sample; of planar pictures of 8 bits.
void more_chroma(const tds_picture &target, const tds_picture &out) {
    if (out.layout != TDS_LAYOUT_PLANAR || out.bit_depth != 8) {
        return;
    }
    for (int plane = 1; plane < 3; plane++) {
        const bool apart = target.layout == TDS_LAYOUT_PLANAR;
        const auto *first = static_cast<const uint8_t *>(target.data[apart ? plane : 1]);
        const int value = first[apart ? 0 : plane - 1] + 10;
        for (int32_t y = 0; y < out.height / 2; y++) {
            std::memset(static_cast<uint8_t *>(out.data[plane]) + y * out.stride[plane], value,
                        static_cast<size_t>(out.width / 2));
        }
    }
}

tds_result enhance(void *instance, const tds_backend_job *jobs, int32_t count,
                   tds_backend_error *error) {
    if (record.failures > 0) {
        record.failures--;
        std::snprintf(error->text, sizeof(error->text), "out of luck");
        return TDS_ERROR_BACKEND;
    }
    record.log += "E";
    for (int32_t i = 0; i < count; i++) {
        const tds_backend_job &job = jobs[i];
        record.log += (i ? "+" : "") + std::to_string(job.target->pts) +
                      references(*static_cast<const Instance *>(instance), job);
        record.side.clear();
        for (const auto &row : job.side) {
            record.side.emplace_back(std::begin(row), std::end(row));
        }
        fill(*job.out, *static_cast<const uint8_t *>(job.target->data[0]));
        more_chroma(*job.target, *job.out);
        if (job.keep) {
            record.handles++;
            *job.keep = new Handle{job.target->pts};
            record.log += "k";
        }
    }
    record.log += " ";
    return TDS_OK;
}

tds_result upsample(void *, const tds_picture *target, tds_picture *out, tds_backend_error *) {
    record.log += "U" + std::to_string(target->pts) + " ";
    fill(*out, *static_cast<const uint8_t *>(target->data[0]));
    return TDS_OK;
}

const tds_backend backend = {TDS_BACKEND_ABI, "record", devices, open,   close, prepare, drop,
                             enhance,         upsample, nullptr, nullptr};

} // namespace

extern "C" TDS_API const tds_backend *tds_backend_entry(void) {
    return &backend;
}
extern "C" TDS_API Record *tds_test_record(void) {
    return &record;
}
