// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A session as a program: the first bytes say what it is, the others what is sent, lost, flushed
// and received. Each time comes out once and in order, from what was sent for it; owners are
// released once; what is held is bounded; nobody waits for what cannot come.
#include "fuzz.h"
#include "tds/tds.h"
#include "tests/record_backend.h"
#include "tests/support.h"

#include <dlfcn.h>

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

namespace {

constexpr int32_t kSize = 16;

Record &record() {
    static Record *found = [] {
        setenv("TDS_BACKEND_PATH", TEST_FOLDER, 1);
        void *library = dlopen(TEST_BACKEND, RTLD_NOW | RTLD_LOCAL);
        const auto entry =
            library ? reinterpret_cast<RecordFunction>(dlsym(library, "tds_test_record")) : nullptr;
        REQUIRE(entry);
        return entry();
    }();
    return *found;
}

// What was sent for a time.
struct Sent {
    bool hr = false, lr = false; // a picture, and not only word of one that was lost
};

// The samples of one picture, until the engine has released them.
struct Owner {
    Samples samples;
    int *live;
};

void release(void *owner) {
    auto *own = static_cast<Owner *>(owner);
    --*own->live;
    delete own;
}

class Program {
  public:
    explicit Program(Bytes bytes) : bytes_(bytes) {}
    ~Program() { tds_session_close(session_); }
    Program(const Program &) = delete;
    Program &operator=(const Program &) = delete;

    void run() {
        if (!open()) {
            return;
        }
        while (!bytes_.empty()) {
            step(bytes_.next());
        }
        finish();
        tds_session_close(session_);
        session_ = nullptr;
        for (tds_picture &picture : kept_) {
            tds_picture_release(&picture);
        }
        REQUIRE(live_ == 0);
        REQUIRE(record().handles == 0);
    }

  private:
    bool open() {
        static const std::string models[] = {
            model_file("fuzz-1.pt", 2, false),
            model_file("fuzz-1-alone.pt", 4, true),
            model_file_2("fuzz-2-full.pt", 1, R"("-1","+1","-2","full-before","full-after")"),
            model_file_2("fuzz-2-low.pt", 2, R"("full-before","full-after","-1","+1")"),
        };
        record() = Record{};
        tds_settings s;
        tds_default_settings(&s);
        const uint8_t kind = bytes_.next();
        const uint8_t how = bytes_.next();
        const uint8_t sizes = bytes_.next();
        s.width = s.height = kSize;
        s.threads = 1;
        s.causal = how & 1;
        s.picture_facts = how >> 1 & 1;
        s.strength = how & 4 ? 0.0F : 1.0F;
        s.output_layout = how & 8 ? TDS_LAYOUT_SEMIPLANAR : TDS_LAYOUT_PLANAR;
        s.max_group = 1 + (sizes & 7);
        s.max_batch = 1 + (sizes >> 3 & 3);
        s.log = [](void *, tds_log_level, const char *) {};
        s.backend = kind % 8 < 2 ? "bicubic" : "record";
        switch (kind % 8) {
        case 0:
            break;
        case 1:
            s.scale = 4;
            break;
        case 2:
            s.model = models[0].c_str();
            break;
        case 3:
            s.scale = 4;
            s.model = models[1].c_str();
            break;
        case 4:
            s.model = models[3].c_str();
            break;
        case 5:
            s.model = models[3].c_str();
            s.hr_model = models[2].c_str();
            break;
        case 6:
            s.kind = TDS_KIND_PLAIN;
            s.scale = 1;
            s.model = models[2].c_str();
            break;
        default: // one that cannot be
            s.scale = 1;
            s.model = models[0].c_str();
        }
        settings_ = s;
        const tds_result result = tds_session_open(&s, &session_);
        REQUIRE((result == TDS_OK) == (session_ != nullptr));
        REQUIRE((result == TDS_OK) == (kind % 8 != 7));
        return result == TDS_OK;
    }

    void step(uint8_t op) {
        const auto role = static_cast<tds_role>(op & 1);
        switch (op >> 1 & 7) {
        case 0:
        case 1:
        case 2:
            send(role, op >> 4);
            break;
        case 3:
            lose(role, op >> 4);
            break;
        case 4:
        case 5:
            receive();
            break;
        case 6:
            if ((op >> 4 & 3) == 3) {
                end(role);
            } else {
                while (receive() == TDS_OK) {
                }
            }
            break;
        default:
            other(op >> 4);
        }
    }

    // The time of the next event of a stream: close behind the last one, or the same again.
    int64_t time(tds_role role, int how) {
        static constexpr int64_t steps[] = {1, 2, 0, 4};
        const int64_t newest = newest_[role];
        const bool beside = (how & 3) == 2 && role == TDS_LR;
        return std::max<int64_t>(beside ? newest_[TDS_HR] + 1 : newest + steps[how & 3], 1);
    }

    bool may(tds_role role, int64_t pts) const {
        const bool there = role == TDS_HR || settings_.kind == TDS_KIND_PAIR;
        return there && !ended_[role] && pts > newest_[role];
    }

    void send(tds_role role, int how) {
        const int64_t pts = time(role, how);
        const int32_t size = role == TDS_HR ? kSize : tds_lr_size(kSize, settings_.scale);
        if (size == 0) {
            return;
        }
        auto owner = std::make_unique<Owner>(
            Owner{Samples(size, size, 8, static_cast<int>(16 + pts % 200),
                          how & 4 ? TDS_LAYOUT_SEMIPLANAR : TDS_LAYOUT_PLANAR),
                  &live_});
        tds_picture picture = owner->samples.picture(pts);
        picture.corrupt = corrupt_;
        picture.strength = strength_;
        picture.opaque = reinterpret_cast<void *>(static_cast<intptr_t>(2 * pts + role));
        const bool owned = (how & 8) != 0;
        if (owned) {
            picture.owner = owner.get();
            picture.release = release;
        }
        const unsigned wants = tds_session_wants(session_);
        const tds_result result = tds_session_send(session_, role, &picture);
        REQUIRE(may(role, pts) ? result == TDS_OK || result == TDS_AGAIN : result < 0);
        REQUIRE(result != TDS_AGAIN || !(wants & (1U << role))); // what is wanted is taken
        if (result != TDS_OK) {
            return;
        }
        if (owned) {
            live_++;
            owner.release(); // the engine's now, or released already
        }
        newest_[role] = pts;
        (role == TDS_HR ? due_[pts].hr : due_[pts].lr) = true;
        check_held();
    }

    void lose(tds_role role, int how) {
        const int64_t pts = time(role, how);
        const tds_result result = tds_session_send_lost(session_, role, pts);
        REQUIRE(may(role, pts) ? result == TDS_OK || result == TDS_AGAIN : result < 0);
        if (result == TDS_OK) {
            newest_[role] = pts;
            due_[pts];
        }
    }

    void end(tds_role role) {
        REQUIRE(tds_session_send(session_, role, nullptr) == TDS_OK);
        ended_[role] = true;
    }

    tds_result receive() {
        const unsigned wants = tds_session_wants(session_);
        REQUIRE(wants < 4);
        REQUIRE(!(wants & 1U) || !ended_[TDS_HR]);
        REQUIRE(!(wants & 2U) || !ended_[TDS_LR]);
        tds_picture picture;
        const tds_result result = tds_session_receive(session_, &picture);
        if (result < 0) {
            REQUIRE(result == TDS_ERROR_BACKEND); // told to fail, below
            return result;
        }
        REQUIRE((wants != 0) == (result == TDS_AGAIN));
        if (result == TDS_END) {
            REQUIRE(due_.empty() && ended_[TDS_HR]);
            REQUIRE(ended_[TDS_LR] || settings_.kind == TDS_KIND_PLAIN);
        }
        if (result == TDS_OK) {
            check_output(picture);
            if (keeps_ && kept_.size() < 4) {
                kept_.push_back(picture);
            } else {
                tds_picture_release(&picture);
            }
        }
        return result;
    }

    void check_output(const tds_picture &picture) {
        REQUIRE(!due_.empty() &&
                picture.pts == due_.begin()->first); // once, in order, none left out
        const Sent sent = due_.begin()->second;
        due_.erase(due_.begin());
        REQUIRE(picture.width == kSize && picture.height == kSize && picture.bit_depth == 8);
        REQUIRE(picture.data[0] && picture.data[1]);
        switch (picture.status) {
        case TDS_STATUS_PASSED:
        case TDS_STATUS_REFINED:
            REQUIRE(sent.hr);
            break;
        case TDS_STATUS_ENHANCED:
        case TDS_STATUS_UPSAMPLED:
            REQUIRE(sent.lr && !sent.hr);
            break;
        case TDS_STATUS_REPEATED:
            REQUIRE(!sent.hr && !sent.lr);
            REQUIRE(picture.reason & TDS_REASON_LOST);
            break;
        }
        const auto whose = reinterpret_cast<intptr_t>(picture.opaque);
        const intptr_t mine = 2 * picture.pts + (sent.hr ? TDS_HR : TDS_LR);
        REQUIRE(whose == (picture.status == TDS_STATUS_REPEATED ? 0 : mine));
        if (picture.status == TDS_STATUS_PASSED) { // bit for bit
            REQUIRE(*static_cast<uint8_t *>(picture.data[0]) == 16 + picture.pts % 200);
        }
        REQUIRE(picture.first_pts == TDS_NO_PTS || picture.first_pts < picture.pts);
        REQUIRE(picture.last_pts == TDS_NO_PTS || picture.last_pts > picture.pts);
        tds_info info;
        REQUIRE(tds_session_info(session_, &info) == TDS_OK);
        REQUIRE(info.passed + info.enhanced + info.upsampled + info.repeated + info.refined ==
                ++out_);
    }

    // A group and the one that shows where it ends, of both streams, and what they are made from.
    void check_held() const {
        const auto most =
            static_cast<size_t>(4 * (settings_.max_group + 1) + 2 * TDS_MAX_REFERENCES);
        REQUIRE(live_ <= static_cast<int>(most + kept_.size()));
    }

    void other(int what) {
        switch (what) {
        case 0:
            REQUIRE(tds_session_flush(session_) == TDS_OK);
            due_.clear();
            newest_[0] = newest_[1] = 0;
            ended_[0] = ended_[1] = false;
            break;
        case 1:
            record().failures = 1;
            break;
        case 2:
            corrupt_ = !corrupt_;
            break;
        case 3:
            strength_ = strength_ < 0.0F ? 0.0F : -1.0F;
            break;
        case 4:
            keeps_ = !keeps_;
            break;
        case 5:
            for (tds_picture &picture : kept_) {
                tds_picture_release(&picture);
            }
            kept_.clear();
            break;
        case 6: { // no picture at all
            tds_picture picture;
            tds_picture_init(&picture);
            picture.pts = newest_[TDS_HR] + 1;
            REQUIRE(tds_session_send(session_, TDS_HR, &picture) < 0);
            break;
        }
        case 7:
            REQUIRE(tds_session_send_lost(session_, TDS_HR, TDS_NO_PTS) < 0);
            break;
        default:
            break;
        }
    }

    void finish() {
        record().failures = 0;
        end(TDS_HR);
        end(TDS_LR);
        for (size_t guard = due_.size() + 1;; guard--) {
            REQUIRE(guard > 0);
            const tds_result result = receive();
            REQUIRE(result == TDS_OK || result == TDS_END);
            if (result == TDS_END) {
                return;
            }
        }
    }

    Bytes bytes_;
    tds_settings settings_{};
    tds_session *session_ = nullptr;
    std::map<int64_t, Sent> due_; // by time: what is to come out
    int64_t newest_[2] = {0, 0};
    bool ended_[2] = {false, false};
    int live_ = 0; // owners that the engine or kept_ has
    int64_t out_ = 0;
    int corrupt_ = 0;
    float strength_ = -1.0F;
    bool keeps_ = false;
    std::vector<tds_picture> kept_;
};

} // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Program(Bytes(data, size)).run();
    return 0;
}
