// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Models of contract 2, asked as a session asks: through the backend's table. Neighbours in
// make_models.py puts into the pixels what it was given; `expected` says the same again.
#include "backends/backend.h"
#include "tests/check.h"
#include "tests/support.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <iterator>
#include <memory>

extern "C" const tds_backend *tds_backend_entry(void);

namespace {

constexpr int32_t kReferences = 3;

std::string log_text;

struct Instance {
    Instance(const char *name, int32_t width, int32_t height, int32_t scale, int32_t alignment,
             const std::function<void(tds_backend_config &)> &change = {}) {
        const std::string path = std::string(TEST_FOLDER) + "/" + name + ".pt";
        std::ifstream file(path, std::ios::binary);
        const std::string bytes{std::istreambuf_iterator<char>(file), {}};
        tds_backend_model model{};
        model.path = path.c_str();
        model.data = bytes.data();
        model.size = bytes.size();
        model.torch = "";
        model.contract = 2;
        model.alignment = alignment;
        model.references = kReferences;
        model.features = model.no_reference = 1;
        model.halo = 2;
        model.cuda_precision = "float32";
        model.cpu_precision = "bfloat16";
        tds_backend_config config{};
        config.width = width;
        config.height = height;
        config.scale = scale;
        config.bit_depth = 8;
        config.hr_qp = config.lr_qp = -1;
        config.device = "cpu";
        config.precision = "float32";
        config.threads = 2;
        config.log = [](void *, tds_log_level, const char *text) {
            log_text += std::string(text) + "\n";
        };
        config.model = &model;
        if (change) {
            change(config);
        }
        log_text.clear();
        result = table->open(&config, &instance, &traits, &error);
    }
    ~Instance() {
        if (instance) {
            table->close(instance);
        }
    }
    Instance(const Instance &) = delete;
    Instance &operator=(const Instance &) = delete;

    const tds_backend *table = tds_backend_entry();
    void *instance = nullptr;
    tds_backend_traits traits{};
    tds_backend_error error{};
    tds_result result;
};

// A picture, and what the backend keeps of it.
class Shown {
  public:
    Shown(Instance &of, int32_t full_width, int32_t full_height, const tds_backend_facts &f,
          int value, bool noise = false)
        : facts(f), of_(of),
          samples_(tds_lr_size(full_width, f.scale), tds_lr_size(full_height, f.scale), 8, value) {
        if (noise) {
            samples_.noise();
        }
        picture = samples_.picture(0);
        tds_backend_error error{};
        CHECK_EQ(of.table->prepare(of.instance, &picture, &facts, &handle, &error), TDS_OK);
    }
    ~Shown() { of_.table->drop(of_.instance, handle); }
    Shown(const Shown &) = delete;
    Shown &operator=(const Shown &) = delete;

    tds_picture picture{};
    tds_backend_facts facts;
    void *handle = nullptr;

  private:
    Instance &of_;
    Samples samples_;
};

struct Job {
    const Shown *target;
    std::array<const Shown *, kReferences> references;
    std::array<float, kReferences> distances;
    float strength = 1;
};

tds_backend_job as_asked(const Job &job, tds_picture &out) {
    tds_backend_job asked{};
    asked.target = &job.target->picture;
    asked.handle = job.target->handle;
    asked.out = &out;
    for (size_t row = 0; row <= kReferences; row++) {
        const Shown *shown = row == 0 ? job.target : job.references[row - 1];
        const tds_backend_facts &facts = shown ? shown->facts : job.target->facts;
        float *side = asked.side[row];
        side[0] = shown ? 1 : 0;
        side[1] = row > 0 && shown ? job.distances[row - 1] : 0;
        side[2] = static_cast<float>(facts.scale);
        side[3] = static_cast<float>(facts.enhanced);
        side[4] = static_cast<float>(facts.qp);
        side[5] = static_cast<float>(facts.type);
        side[6] = row == 0 ? job.strength : 0;
        if (row > 0 && shown) {
            asked.references[row - 1] = shown->handle;
        }
    }
    return asked;
}

// What pictures of one value each give.
double expected(const Job &job, double target, const std::array<double, kReferences> &values) {
    const auto said = [](const tds_backend_facts &f) {
        return f.scale / 64.0 + f.enhanced / 128.0 + f.qp / 1024.0 + f.type / 256.0;
    };
    double change = said(job.target->facts);
    for (size_t r = 0; r < kReferences; r++) {
        if (job.references[r]) {
            const double share =
                (static_cast<double>(r + 1) + static_cast<double>(job.distances[r]) / 8) / 8;
            change += share * (values[r] - target) / 255 + said(job.references[r]->facts) / 2;
        }
    }
    return std::clamp(target + job.strength * change * 255, 0.0, 255.0);
}

// The enhanced pictures' samples, Y then Cb then Cr.
std::vector<std::vector<uint16_t>> made(Instance &of, const std::vector<Job> &jobs, int32_t width,
                                        int32_t height, tds_result wanted = TDS_OK) {
    std::vector<std::unique_ptr<Samples>> outs;
    std::vector<tds_picture> pictures;
    for (size_t i = 0; i < jobs.size(); i++) {
        outs.push_back(std::make_unique<Samples>(width, height, 8, 0));
        pictures.push_back(outs.back()->picture(0));
    }
    std::vector<tds_backend_job> asked;
    for (size_t i = 0; i < jobs.size(); i++) {
        asked.push_back(as_asked(jobs[i], pictures[i]));
    }
    const tds_result result =
        of.table->enhance(of.instance, asked.data(), static_cast<int32_t>(asked.size()), &of.error);
    if (result != wanted) {
        std::fprintf(stderr, "%s\n", of.error.text);
    }
    CHECK_EQ(result, wanted);
    std::vector<std::vector<uint16_t>> samples;
    for (const tds_picture &picture : pictures) {
        samples.push_back(planar_samples(picture));
    }
    return samples;
}

bool all_near(const std::vector<uint16_t> &samples, double value, double by) {
    return std::all_of(samples.begin(), samples.end(),
                       [&](uint16_t s) { return std::fabs(s - value) <= by; });
}

} // namespace

TEST("what a model of contract 2 wants") {
    Instance instance("neighbours", 64, 48, 2, 4);
    CHECK_EQ(instance.result, TDS_OK);
    CHECK_EQ(instance.traits.references, 3);
    CHECK_EQ(instance.traits.prepares_targets, 1);
    CHECK_EQ(instance.traits.runs_without_reference, 1);
    CHECK_EQ(instance.traits.max_batch, 2); // its two threads
    CHECK_EQ(std::string(instance.traits.precision), "float32");
    Instance promises("promises2", 64, 48, 2, 4);
    CHECK_EQ(promises.result, TDS_ERROR_MODEL);
    CHECK(std::string(promises.error.text).find("\"features\"") != std::string::npos);
}

TEST("targets and references of any size, in every slot, with their facts; several at once") {
    const int32_t w = 54;
    const int32_t h = 38;
    for (const int32_t scale : {1, 2}) {
        Instance of(scale == 1 ? "neighbours1" : "neighbours", w, h, scale, scale == 1 ? 32 : 4);
        CHECK_EQ(of.result, TDS_OK);
        const Shown target(of, w, h, {scale, 0, -1, -1}, 100);
        const Shown other(of, w, h, {scale, 0, 30, 2}, 60);
        const Shown low(of, w, h, {2, 0, 37, 1}, 120);
        const Shown tiny(of, w, h, {4, 0, -1, -1}, 90);
        const Shown refined(of, w, h, {1, 1, 22, 0}, 110);
        const std::vector<Job> jobs = {
            {&target, {&low, &tiny, &refined}, {-1, 1, -3}, 1},
            {&target, {nullptr, nullptr, nullptr}, {0, 0, 0}, 1},
            {&target, {&refined, nullptr, &low}, {-2, 0, 5}, 0.5F},
            {&other, {&target, &refined, nullptr}, {-1, 1, 0}, 1},
            {&other, {nullptr, &other, &tiny}, {0, 2, -8}, 1},
        };
        const std::array<std::array<double, 3>, 5> values = {
            {{120, 90, 110}, {0, 0, 0}, {110, 0, 120}, {100, 110, 0}, {0, 60, 90}}};
        const auto got = made(of, jobs, w, h);
        for (size_t i = 0; i < jobs.size(); i++) {
            const double want = expected(jobs[i], jobs[i].target == &target ? 100 : 60, values[i]);
            if (!all_near(got[i], want, 0.51)) {
                CHECK_EQ(static_cast<double>(got[i][0]), want);
            }
            // Alone or beside others: the same picture.
            CHECK(made(of, {jobs[i]}, w, h)[0] == got[i]);
        }
    }
}

TEST("an LR picture comes as the bicubic backend brings it up, whatever the padding") {
    const int32_t w = 54;
    const int32_t h = 38;
    for (const int32_t k : {2, 4}) {
        Instance of("neighbours1", w, h, 1, 32);
        const Shown low(of, w, h, {k, 0, 0, 0}, 0, true);
        const auto got = made(of, {{&low, {nullptr, nullptr, nullptr}, {0, 0, 0}, 1e-6F}}, w, h)[0];
        Session session([&](tds_settings &s) {
            s.width = w;
            s.height = h;
            s.scale = k;
        });
        CHECK_EQ(tds_session_send(session.get(), TDS_LR, &low.picture), TDS_OK);
        CHECK_EQ(tds_session_send(session.get(), TDS_HR, nullptr), TDS_OK);
        tds_picture out;
        CHECK_EQ(tds_session_receive(session.get(), &out), TDS_OK);
        const auto want = planar_samples(out);
        tds_picture_release(&out);
        CHECK_EQ(got.size(), want.size());
        for (size_t i = 0; i < want.size(); i++) {
            CHECK(std::abs(got[i] - want[i]) <= 1);
        }
    }
}

TEST("what is kept of a result is its picture, enhanced") {
    Instance of("neighbours1", 64, 64, 1, 32);
    const Shown target(of, 64, 64, {1, 0, 30, 1}, 100);
    const Job job{&target, {nullptr, nullptr, nullptr}, {0, 0, 0}, 1};
    Samples samples(64, 64, 8, 0);
    tds_picture out = samples.picture(0);
    tds_backend_job asked = as_asked(job, out);
    void *kept = nullptr;
    asked.keep = &kept;
    CHECK_EQ(of.table->enhance(of.instance, &asked, 1, &of.error), TDS_OK);
    CHECK(kept != nullptr);
    const double first = expected(job, 100, {});
    // The same again with what was kept in slot 0.
    asked.keep = nullptr;
    asked.references[0] = kept;
    const std::array<float, 7> row{1, -1, 1, 1, 30, 1, 0};
    std::copy(row.begin(), row.end(), asked.side[1]);
    CHECK_EQ(of.table->enhance(of.instance, &asked, 1, &of.error), TDS_OK);
    of.table->drop(of.instance, kept);
    const double said = 1 / 64.0 + 1 / 128.0 + 30 / 1024.0 + 1 / 256.0;
    const double want = first + 255 * ((1 - 1 / 8.0) / 8 * (first - 100) / 255 + said / 2);
    CHECK(all_near(planar_samples(out), want, 0.51));
}

TEST("pictures stay float32 whatever the model computes in; auto follows the processor") {
    Instance of("neighbours1", 64, 64, 1, 32,
                [](tds_backend_config &config) { config.precision = "bfloat16"; });
    CHECK_EQ(std::string(of.traits.precision), "bfloat16");
    const Shown target(of, 64, 64, {1, 0, 0, 0}, 0, true);
    const auto got = made(of, {{&target, {nullptr, nullptr, nullptr}, {0, 0, 0}, 1e-6F}}, 64, 64);
    CHECK(got[0] == planar_samples(target.picture));
    Instance chosen("neighbours1", 64, 64, 1, 32,
                    [](tds_backend_config &config) { config.precision = "auto"; });
    const std::string precision = chosen.traits.precision;
    CHECK(precision == "bfloat16" || precision == "float32");
}

TEST("too little memory for a picture: in tiles, which give the same picture") {
    const int32_t w = 172; // not a multiple of tiles
    const int32_t h = 134;
    std::vector<std::vector<uint16_t>> got;
    for (const char *name : {"neighbours1", "hungry2"}) {
        Instance of(name, w, h, 1, 16);
        CHECK_EQ(of.result, TDS_OK);
        const Shown a(of, w, h, {1, 0, 20, 0}, 0, true);
        const Shown b(of, w, h, {1, 0, 25, 1}, 90);
        const Shown low(of, w, h, {2, 0, -1, -1}, 0, true);
        got.push_back(made(of, {{&b, {&a, nullptr, &low}, {-1, 0, 2}, 1}}, w, h)[0]);
        CHECK(made(of, {{&b, {&a, nullptr, &low}, {-1, 0, 2}, 1}}, w, h)[0] == got.back());
        CHECK_EQ(log_text.find("tiles of 96x96") != std::string::npos,
                 std::string(name) == "hungry2");
    }
    CHECK(got[0] == got[1]);
}

TEST("no memory at all is one sentence, and nothing is kept") {
    Instance of("starving2", 128, 128, 1, 16);
    const Shown target(of, 128, 128, {1, 0, 0, 0}, 50);
    Samples samples(128, 128, 8, 0);
    tds_picture out = samples.picture(0);
    tds_backend_job asked = as_asked({&target, {nullptr, nullptr, nullptr}, {0, 0, 0}, 1}, out);
    void *kept = nullptr;
    asked.keep = &kept;
    CHECK_EQ(of.table->enhance(of.instance, &asked, 1, &of.error), TDS_ERROR_MEMORY);
    CHECK(std::string(of.error.text).find("out of memory") != std::string::npos);
    CHECK(kept == nullptr);
}

int main(int argc, char **argv) {
    return check::run(argc, argv);
}
