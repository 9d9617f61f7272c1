// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/session.h"

#include "session/backend_loader.h"
#include "session/engine.h"
#include "session/error.h"
#include "session/model_file.h"
#include "session/sha256.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>

namespace tds {
namespace {

// HR pictures waiting to go out. Two are needed: the one that opens a run and
// the one that closes it; more would only cost memory.
constexpr size_t kMaxHr = 2;

void log_to_stderr(void *, tds_log_level level, const char *message) {
    if (level <= TDS_LOG_WARNING) {
        std::fprintf(stderr, "tds: %s\n", message);
    }
}

bool one_of(const std::string &value, std::initializer_list<const char *> names) {
    return std::any_of(names.begin(), names.end(), [&](const char *n) { return value == n; });
}

bool is_cuda(const std::string &device) {
    if (device == "cuda") {
        return true;
    }
    return device.size() > 5 && device.size() < 9 && device.compare(0, 5, "cuda:") == 0 &&
           device.find_first_not_of("0123456789", 5) == std::string::npos;
}

void check_range(const char *what, int32_t value, int32_t low, int32_t high) {
    if (value < low || value > high) {
        invalid(std::string(what) + " is " + std::to_string(value) + ", not " +
                std::to_string(low) + " to " + std::to_string(high));
    }
}

void check_settings(const tds_settings &s) {
    check_range("width", s.width, 16, TDS_MAX_SIZE);
    check_range("height", s.height, 16, TDS_MAX_SIZE);
    if (s.width % 2 != 0 || s.height % 2 != 0) {
        invalid("the size " + std::to_string(s.width) + "x" + std::to_string(s.height) +
                " is odd: 4:2:0 pictures need an even width and height");
    }
    if (s.scale != 1 && s.scale != 2 && s.scale != 4) {
        invalid("scale is " + std::to_string(s.scale) + ", not 1, 2 or 4");
    }
    if (s.bit_depth != 8 && s.bit_depth != 10) {
        invalid("bit_depth is " + std::to_string(s.bit_depth) + ", not 8 or 10");
    }
    check_range("threads", s.threads, 0, 1024);
    check_range("max_group", s.max_group, 1, TDS_MAX_PENDING - 1);
    check_range("max_batch", s.max_batch, 1, TDS_MAX_PENDING);
    check_range("hr_qp", s.hr_qp, -1, 63);
    check_range("lr_qp", s.lr_qp, -1, 63);
    const std::string precision = s.precision ? s.precision : "auto";
    if (!one_of(precision, {"auto", "float32", "float16", "bfloat16"})) {
        invalid("precision is \"" + precision + "\", not auto, float32, float16 or bfloat16");
    }
    const std::string device = s.device ? s.device : "auto";
    if (!one_of(device, {"auto", "cpu"}) && !is_cuda(device)) {
        invalid("device is \"" + device + "\", not auto, cpu, cuda or cuda:N");
    }
    if (s.output_memory != TDS_MEMORY_HOST && s.output_memory != TDS_MEMORY_CUDA) {
        invalid("output_memory is neither TDS_MEMORY_HOST nor TDS_MEMORY_CUDA");
    }
    if (s.output_layout != TDS_LAYOUT_PLANAR && s.output_layout != TDS_LAYOUT_SEMIPLANAR) {
        invalid("output_layout is neither TDS_LAYOUT_PLANAR nor TDS_LAYOUT_SEMIPLANAR");
    }
    if (s.model_sha256) {
        const std::string hash = s.model_sha256;
        if (hash.size() != 64 ||
            hash.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
            invalid("model_sha256 is \"" + hash + "\", not 64 hexadecimal digits");
        }
    }
}

int32_t device_index(const tds_backend_traits &traits) {
    const char *colon = std::strchr(traits.device, ':');
    return colon ? static_cast<int32_t>(std::strtol(colon + 1, nullptr, 10)) : 0;
}

uint64_t distance(int64_t a, int64_t b) {
    return a > b ? static_cast<uint64_t>(a) - static_cast<uint64_t>(b)
                 : static_cast<uint64_t>(b) - static_cast<uint64_t>(a);
}

float position(int64_t pts, const ReferencePtr &first, const ReferencePtr &last) {
    if (!first || !last) {
        return 0.5F;
    }
    return static_cast<float>(static_cast<double>(distance(pts, first->pts())) /
                              static_cast<double>(distance(last->pts(), first->pts())));
}

} // namespace

// ----------------------------------------------------------- reference --

Reference::Reference(Engine &engine, FramePtr frame)
    : engine_(engine), frame_(std::move(frame)), pts_(frame_->pts()),
      damaged_(frame_->picture().corrupt != 0) {}

Reference::Reference(Engine &engine, void *handle, int64_t pts, bool damaged)
    : engine_(engine), handle_(handle), pts_(pts), damaged_(damaged) {}

Reference::~Reference() {
    if (handle_) {
        engine_.drop(handle_);
    }
}

void *Reference::handle() {
    if (!handle_) {
        handle_ = engine_.prepare(frame_->picture(), {1, 0, -1, -1});
    }
    return handle_;
}

// ------------------------------------------------------------- opening --

Session::Session(const tds_settings &settings) : settings_(settings) {
    check_settings(settings_);
    if (!settings_.log) {
        settings_.log = log_to_stderr;
    }
    lr_width_ = tds_lr_size(settings_.width, settings_.scale);
    lr_height_ = tds_lr_size(settings_.height, settings_.scale);

    std::string name = settings_.backend ? settings_.backend : "auto";
    if (name == "auto") {
        name = settings_.model ? "torchscript" : "bicubic";
    }

    tds_backend_config config{};
    config.width = settings_.width;
    config.height = settings_.height;
    config.scale = settings_.scale;
    config.bit_depth = settings_.bit_depth;
    config.hr_qp = settings_.hr_qp;
    config.lr_qp = settings_.lr_qp;
    config.device = settings_.device ? settings_.device : "auto";
    config.precision = settings_.precision ? settings_.precision : "auto";
    config.threads = settings_.threads;
    config.log = settings_.log;
    config.log_context = settings_.log_context;

    ModelFile file;
    tds_backend_model model{};
    if (name != "bicubic") {
        if (!settings_.model) {
            invalid("the backend \"" + name + "\" needs a model: set the model file");
        }
        std::vector<char> data = read_model_bytes(settings_.model);
        model_sha256_ = sha256_hex(data.data(), data.size());
        if (settings_.model_sha256) {
            std::string wanted = settings_.model_sha256;
            std::transform(wanted.begin(), wanted.end(), wanted.begin(), [](char c) {
                return c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
            });
            if (wanted != model_sha256_) {
                throw Error(TDS_ERROR_MODEL,
                            std::string("model file ") + settings_.model + ": its sha256 is " +
                                model_sha256_ + ", not " + wanted +
                                " as asked for: fetch the file again, or name the right one");
            }
        }
        file = parse_model(settings_.model, std::move(data));
        if (file.scale != settings_.scale) {
            throw Error(TDS_ERROR_MODEL,
                        "model file " + file.path +
                            ": it is for k = " + std::to_string(file.scale) +
                            " and this video has k = " + std::to_string(settings_.scale) +
                            ": name a model for that k");
        }
        if (std::find(file.bit_depths.begin(), file.bit_depths.end(), settings_.bit_depth) ==
            file.bit_depths.end()) {
            log(TDS_LOG_WARNING, "model " + file.name + " was not trained for " +
                                     std::to_string(settings_.bit_depth) + "-bit video");
        }
        model_name_ = file.name;
        model.path = file.path.c_str();
        model.data = file.data.data();
        model.size = file.data.size();
        model.torch = file.torch.c_str();
        model.contract = file.contract;
        model.alignment = file.alignment;
        model.references = static_cast<int32_t>(file.references.size());
        model.halo = file.halo;
        model.features = file.features ? 1 : 0;
        model.no_reference = file.no_reference ? 1 : 0;
        model.cuda_precision = file.cuda_precision.c_str();
        model.cpu_precision = file.cpu_precision.c_str();
        config.model = &model;
    }
    const tds_backend &backend = find_backend(name);
    engine_ = std::make_unique<Engine>(backend, config);
    backend_name_ = engine_->name();

    if (settings_.output_memory == TDS_MEMORY_CUDA &&
        std::strncmp(engine_->traits().device, "cuda", 4) != 0) {
        throw Error(TDS_ERROR_UNSUPPORTED,
                    "outputs in CUDA memory need a backend on a CUDA device, and " + backend_name_ +
                        " runs on " + engine_->traits().device);
    }
    // The caller's strings need not outlive this call.
    settings_.backend = settings_.model = settings_.model_sha256 = nullptr;
    settings_.device = settings_.precision = nullptr;
}

Session::~Session() {
    flush();
}

Session::Group::~Group() {
    for (Entry &entry : entries) {
        tds_picture_release(&entry.out);
    }
}

void Session::log(tds_log_level level, const std::string &message) const {
    settings_.log(settings_.log_context, level, message.c_str());
}

void Session::flush() {
    group_.reset();
    previous_ = {};
    first_.reset();
    last_.reset();
    run_.clear();
    closing_.reset();
    hr_ = {};
    lr_ = {};
    long_run_ = run_has_lost_hr_ = false;
}

void Session::info(tds_info *info) const {
    *info = counts_;
    info->backend = backend_name_.c_str();
    info->device = engine_->traits().device;
    info->precision = engine_->traits().precision;
    info->model_name = model_name_.c_str();
    info->model_sha256 = model_sha256_.c_str();
    info->references = engine_->prepared();
}

// ------------------------------------------------------------- sending --

size_t Session::lr_held() const {
    size_t held = lr_.events.size() + run_.size();
    if (group_) {
        held += static_cast<size_t>(std::count_if(group_->entries.begin(), group_->entries.end(),
                                                  [](const Entry &e) { return !e.done; }));
    }
    return held;
}

size_t Session::hr_markers() const {
    const auto queued = std::count_if(hr_.events.begin(), hr_.events.end(),
                                      [](const Event &e) { return !e.frame; });
    const auto merged =
        std::count_if(run_.begin(), run_.end(), [](const Event &e) { return e.hr_lost; });
    return static_cast<size_t>(queued + merged);
}

const Session::Event *Session::next_hr() const {
    if (closing_) {
        return &*closing_;
    }
    for (const Event &event : hr_.events) {
        if (event.frame) {
            return &event;
        }
    }
    return nullptr;
}

void Session::allocate(tds_picture &picture) {
    if (settings_.allocate) {
        const tds_result result = settings_.allocate(settings_.allocate_context, &picture);
        if (result != TDS_OK) {
            throw Error(result < 0 ? result : TDS_ERROR_MEMORY,
                        "the caller's allocate function gave no picture");
        }
    } else if (picture.memory == TDS_MEMORY_CUDA) {
        engine_->allocate(picture);
    } else {
        pool_.allocate(picture);
    }
}

// The picture as the session's own; nothing is taken when this throws.
FramePtr Session::take(tds_role role, const tds_picture &picture) {
    tds_picture own = picture;
    own.first_pts = own.last_pts = TDS_NO_PTS;
    own.status = TDS_STATUS_PASSED;
    own.reason = 0;
    if (picture.release) {
        return std::make_shared<Frame>(own);
    }
    std::fill(std::begin(own.data), std::end(own.data), nullptr);
    std::fill(std::begin(own.stride), std::end(own.stride), 0);
    own.owner = nullptr;
    if (role == TDS_HR) {
        allocate(own); // it becomes an output
    } else if (own.memory == TDS_MEMORY_CUDA) {
        engine_->allocate(own);
    } else {
        pool_.allocate(own);
    }
    auto frame = std::make_shared<Frame>(own);
    engine_->copy(picture, own);
    return frame;
}

tds_result Session::send(tds_role role, const tds_picture *picture) {
    if (role != TDS_HR && role != TDS_LR) {
        invalid("the role is neither TDS_HR nor TDS_LR");
    }
    Queue &queue = role == TDS_HR ? hr_ : lr_;
    const char *name = role == TDS_HR ? "HR" : "LR";
    if (!picture) {
        queue.ended = true;
        merge();
        return TDS_OK;
    }
    if (queue.ended) {
        invalid(std::string(name) + " picture after the end of the " + name +
                " stream: flush the session to start again");
    }
    validate(*picture, name, role == TDS_HR ? settings_.width : lr_width_,
             role == TDS_HR ? settings_.height : lr_height_, settings_.bit_depth);
    if (picture->memory == TDS_MEMORY_CUDA) {
        // Here, not when it is worked on: a picture that is taken stays in the way.
        if (!engine_->has_device_memory() ||
            std::strncmp(engine_->traits().device, "cuda", 4) != 0) {
            throw Error(TDS_ERROR_UNSUPPORTED,
                        std::string(name) + " picture in CUDA memory: the backend " +
                            backend_name_ + " works in host memory, download it first");
        }
        if (std::any_of(std::begin(picture->stride), std::end(picture->stride),
                        [](ptrdiff_t stride) { return stride < 0; })) {
            throw Error(TDS_ERROR_UNSUPPORTED,
                        std::string(name) +
                            " picture in CUDA memory with a negative stride: copy it first");
        }
    }
    if (queue.newest && picture->pts <= *queue.newest) {
        throw Error(TDS_ERROR_ORDER, std::string(name) + " picture at time " +
                                         std::to_string(picture->pts) + " after one at " +
                                         std::to_string(*queue.newest) +
                                         ": times must increase within a stream");
    }
    if (role == TDS_HR) {
        const auto waiting = std::count_if(hr_.events.begin(), hr_.events.end(),
                                           [](const Event &e) { return e.frame != nullptr; });
        if (static_cast<size_t>(waiting) + (closing_ ? 1 : 0) >= kMaxHr) {
            return TDS_AGAIN;
        }
    } else if (lr_held() > static_cast<size_t>(settings_.max_group)) {
        return TDS_AGAIN;
    }
    // Room first: once the picture is taken, nothing may fail.
    queue.events.push_back({picture->pts, nullptr, false, false});
    try {
        queue.events.back().frame = take(role, *picture);
    } catch (...) {
        queue.events.pop_back();
        throw;
    }
    queue.newest = picture->pts;
    merge();
    return TDS_OK;
}

tds_result Session::send_lost(tds_role role, int64_t pts) {
    if (role != TDS_HR && role != TDS_LR) {
        invalid("the role is neither TDS_HR nor TDS_LR");
    }
    Queue &queue = role == TDS_HR ? hr_ : lr_;
    const char *name = role == TDS_HR ? "HR" : "LR";
    if (queue.ended) {
        invalid(std::string("lost ") + name + " picture after the end of its stream");
    }
    if (pts == TDS_NO_PTS) {
        invalid(std::string("lost ") + name + " picture without a time stamp");
    }
    if (queue.newest && pts <= *queue.newest) {
        throw Error(TDS_ERROR_ORDER, std::string("lost ") + name + " picture at time " +
                                         std::to_string(pts) + " after one at " +
                                         std::to_string(*queue.newest) +
                                         ": times must increase within a stream");
    }
    const auto limit = static_cast<size_t>(settings_.max_group);
    if (role == TDS_HR ? hr_markers() >= limit : lr_held() > limit) {
        return TDS_AGAIN;
    }
    queue.events.push_back({pts, nullptr, true, role == TDS_HR});
    queue.newest = pts;
    merge();
    return TDS_OK;
}

// ------------------------------------------------------------- pairing --

// An event is in order once the other stream has something at its time or
// later, or has ended.
void Session::merge() {
    while (!closing_) {
        const bool hr = !hr_.events.empty();
        const bool lr = !lr_.events.empty();
        if ((!hr && !lr) || (!hr && !hr_.ended) || (!lr && !lr_.ended)) {
            return;
        }
        const bool take_hr = hr && (!lr || hr_.events.front().pts <= lr_.events.front().pts);
        const bool take_lr = lr && (!hr || lr_.events.front().pts <= hr_.events.front().pts);
        Event event = take_hr ? hr_.events.front() : lr_.events.front();
        if (take_hr && take_lr) { // both speak of this time
            const Event &low = lr_.events.front();
            if (event.frame) {
                counts_.dropped_lr += low.frame ? 1 : 0;
            } else {
                event.frame = low.frame;
            }
        }
        if (take_hr) {
            hr_.events.pop_front();
        }
        if (take_lr) {
            lr_.events.pop_front();
        }
        if (take_hr && !event.hr_lost) {
            closing_ = std::move(event);
        } else {
            run_has_lost_hr_ = run_has_lost_hr_ || event.hr_lost;
            run_.push_back(std::move(event));
        }
    }
}

// Whether pictures of run_ can be made now.
bool Session::can_start() const {
    if (run_.empty()) {
        return false;
    }
    const bool last = next_hr() != nullptr;
    const auto limit = static_cast<size_t>(settings_.max_group);
    const bool full = run_.size() > limit || (!last && hr_markers() >= limit);
    if (full || closing_) {
        return true;
    }
    // Something to repeat must be known before a lost picture can go out.
    if (!run_.front().frame && !first_ && !previous_.target && !last &&
        std::none_of(run_.begin(), run_.end(), [](const Event &e) { return e.frame; }) &&
        std::none_of(lr_.events.begin(), lr_.events.end(),
                     [](const Event &e) { return e.frame; }) &&
        !(hr_.ended && lr_.ended)) {
        return false;
    }
    if (engine_->traits().references == 0) {
        return true;
    }
    // With both references a run waits until it is whole, for its middle. With
    // one there is no recurrence: pictures go out as they come, once it is
    // certain which one that is.
    return last ? !first_ : hr_.ended;
}

bool Session::can_receive() const {
    return group_ || closing_ || can_start();
}

unsigned Session::wants() const {
    if (can_receive()) {
        return 0;
    }
    unsigned wanted = 0;
    if (!hr_.ended && (hr_.events.empty() || (!run_.empty() && !next_hr()))) {
        wanted |= 1U << TDS_HR;
    }
    if (!lr_.ended && lr_.events.empty() && lr_held() <= static_cast<size_t>(settings_.max_group)) {
        wanted |= 1U << TDS_LR;
    }
    return wanted;
}

// Turns run_, or as much of it as may be worked on, into group_.
void Session::start_group() {
    const tds_backend_traits &traits = engine_->traits();
    const bool references = traits.references != 0;
    const Event *closing = next_hr();
    const auto limit = static_cast<size_t>(settings_.max_group);

    ReferencePtr first;
    ReferencePtr last;
    if (references) {
        first = first_;
        if (closing && (!last_ || last_->frame() != closing->frame)) {
            last_ = std::make_shared<Reference>(*engine_, closing->frame);
        }
        last = closing ? last_ : nullptr;
        // Cut where a run is too long to be held whole.
        if ((first && last && run_.size() > limit) || (!last && !hr_.ended)) {
            long_run_ = true;
        }
    }
    size_t count = run_.size();
    if (first && last) {
        count = std::min(count, limit);
    } else {
        count = std::min(count, static_cast<size_t>(settings_.max_batch));
        if (traits.max_batch > 0) {
            count = std::min(count, static_cast<size_t>(traits.max_batch));
        }
    }

    unsigned reason = long_run_ ? TDS_REASON_LONG_GROUP : 0;
    reason |= references ? 0 : TDS_REASON_NO_MODEL;
    reason |= first_ ? 0 : TDS_REASON_NO_FIRST;
    // Without a model a run does not wait for its end, which may yet come.
    reason |= closing || (!references && !hr_.ended) ? 0 : TDS_REASON_NO_LAST;
    if (references &&
        (run_has_lost_hr_ || (first && first->damaged()) || (last && last->damaged()))) {
        reason |= TDS_REASON_REF_LOST;
    }

    auto group = std::make_unique<Group>();
    std::vector<size_t> present;
    for (size_t i = 0; i < count; i++) {
        const Event &event = run_[i];
        Entry entry;
        tds_picture_init(&entry.out);
        entry.pts = event.pts;
        if (event.frame) {
            present.push_back(i);
            entry.recipe = {event.frame, first, last};
            entry.opaque = event.frame->picture().opaque;
            entry.reason = reason | (event.told ? TDS_REASON_LOST : 0) |
                           (event.frame->picture().corrupt ? TDS_REASON_CORRUPT : 0);
            entry.status = references && (first || last || traits.runs_without_reference)
                               ? TDS_STATUS_ENHANCED
                               : TDS_STATUS_UPSAMPLED;
        }
        group->entries.push_back(std::move(entry));
    }
    if (first && last && present.size() > 1) {
        const size_t middle = (present.size() - 1) / 2;
        group->middle = static_cast<int>(present[middle]);
        group->from_middle_last.assign(present.begin(),
                                       present.begin() + static_cast<ptrdiff_t>(middle));
        group->from_middle_first.assign(present.begin() + static_cast<ptrdiff_t>(middle) + 1,
                                        present.end());
    }
    for (size_t i = 0; i < count; i++) {
        if (run_[i].frame) {
            continue;
        }
        // The nearest picture again, of those worked on with it or before it; the
        // earlier one when two are as near. Any other only where there is none:
        // whether it has arrived yet depends on who calls when.
        Entry &entry = group->entries[i];
        entry.status = TDS_STATUS_REPEATED;
        entry.reason = TDS_REASON_LOST | (long_run_ ? TDS_REASON_LONG_GROUP : 0);
        bool found = false;
        uint64_t best = 0;
        const auto nearer = [&](int64_t pts) {
            const uint64_t d = distance(pts, entry.pts);
            if (found && d >= best) {
                return false;
            }
            found = true;
            best = d;
            return true;
        };
        if (first_ && nearer(first_->pts())) {
            entry.copy_of = first_->frame();
        }
        if (previous_.target && nearer(previous_.target->pts())) {
            entry.copy_of = nullptr;
            entry.recipe = previous_;
        }
        for (const size_t j : present) {
            if (nearer(group->entries[j].pts)) {
                entry.copy_of = nullptr;
                entry.recipe = group->entries[j].recipe;
            }
        }
        if (closing && nearer(closing->pts)) {
            entry.copy_of = closing->frame;
            entry.recipe = {};
        }
        if (!found) {
            const auto same_run = [&](const Event &e) {
                if (e.frame && (!closing || e.pts < closing->pts) && nearer(e.pts)) {
                    entry.recipe = {e.frame, first, last};
                }
            };
            std::for_each(run_.begin(), run_.end(), same_run);
            std::for_each(lr_.events.begin(), lr_.events.end(), same_run);
        }
        if (!found) {
            entry.reason |= TDS_REASON_NO_FIRST | TDS_REASON_NO_LAST;
        }
        // A repeated picture waits for the middle as the one it repeats does.
        for (auto *list : {&group->from_middle_first, &group->from_middle_last}) {
            const bool waits = !entry.copy_of && entry.recipe.target &&
                               std::any_of(list->begin(), list->end(), [&](size_t j) {
                                   return group->entries[j].recipe.target == entry.recipe.target;
                               });
            if (waits) {
                list->push_back(i);
            }
        }
    }
    run_.erase(run_.begin(), run_.begin() + static_cast<ptrdiff_t>(count));
    group_ = std::move(group);
}

// ------------------------------------------------------------- working --

void Session::prepare_output(Entry &entry) {
    tds_picture &out = entry.out;
    tds_picture_init(&out);
    out.width = settings_.width;
    out.height = settings_.height;
    out.bit_depth = settings_.bit_depth;
    out.layout = settings_.output_layout;
    out.memory = settings_.output_memory;
    out.device_index = out.memory == TDS_MEMORY_CUDA ? device_index(engine_->traits()) : 0;
    out.pts = entry.pts;
    allocate(out);
}

// Makes the pictures of `batch`. On an error none of them is made, and the
// next call of receive tries again.
void Session::make(const std::vector<size_t> &batch, bool keep_middle) {
    Group &group = *group_;
    void *middle = nullptr;
    try {
        std::vector<tds_backend_job> jobs;
        for (const size_t i : batch) {
            Entry &entry = group.entries[i];
            Recipe &recipe = entry.recipe;
            prepare_output(entry);
            if (entry.copy_of) {
                engine_->copy(entry.copy_of->picture(), entry.out);
            } else if (!recipe.target) {
                if (entry.out.memory == TDS_MEMORY_HOST) {
                    fill_black(entry.out);
                } else {
                    tds_picture black = entry.out;
                    black.memory = TDS_MEMORY_HOST;
                    black.device_index = 0;
                    pool_.allocate(black);
                    const Frame frame(black);
                    fill_black(black);
                    engine_->copy(black, entry.out);
                }
            } else if (engine_->traits().references != 0 && !recipe.first && !recipe.last &&
                       engine_->traits().runs_without_reference == 0) {
                engine_->upsample(recipe.target->picture(), entry.out);
            } else {
                tds_backend_job job{};
                job.target = &recipe.target->picture();
                job.references[0] = recipe.first ? recipe.first->handle() : nullptr;
                job.references[1] = recipe.last ? recipe.last->handle() : nullptr;
                job.position = position(recipe.target->pts(), recipe.first, recipe.last);
                job.out = &entry.out;
                job.keep = keep_middle ? &middle : nullptr;
                jobs.push_back(job);
            }
        }
        if (!jobs.empty()) {
            engine_->enhance(jobs.data(), static_cast<int32_t>(jobs.size()));
            counts_.batches++;
        }
    } catch (...) {
        for (const size_t i : batch) {
            tds_picture_release(&group.entries[i].out);
        }
        throw;
    }
    for (const size_t i : batch) {
        group.entries[i].done = true;
    }
    if (middle) {
        const Entry &entry = group.entries[batch.front()];
        const bool damaged = (entry.reason & (TDS_REASON_CORRUPT | TDS_REASON_REF_LOST)) != 0;
        const auto reference = std::make_shared<Reference>(*engine_, middle, entry.pts, damaged);
        for (const size_t i : group.from_middle_last) {
            group.entries[i].recipe.last = reference;
        }
        for (const size_t i : group.from_middle_first) {
            group.entries[i].recipe.first = reference;
        }
        for (const auto *list : {&group.from_middle_first, &group.from_middle_last}) {
            for (const size_t i : *list) {
                if (damaged && group.entries[i].status != TDS_STATUS_REPEATED) {
                    group.entries[i].reason |= TDS_REASON_REF_LOST;
                }
            }
        }
    }
}

void Session::work() {
    Group &group = *group_;
    if (group.middle >= 0 && !group.entries[static_cast<size_t>(group.middle)].done) {
        make({static_cast<size_t>(group.middle)}, true);
        if (group.entries[group.next].done) {
            return;
        }
    }
    std::vector<size_t> batch;
    const auto limit = static_cast<size_t>(settings_.max_batch);
    for (size_t i = group.next; i < group.entries.size() && batch.size() < limit; i++) {
        if (!group.entries[i].done) {
            batch.push_back(i);
        }
    }
    make(batch, false);
}

void Session::hand_out(Entry &entry, tds_picture *picture) {
    tds_picture &out = entry.out;
    out.pts = entry.pts;
    out.status = entry.status;
    out.reason = entry.reason;
    out.opaque = entry.opaque;
    const Recipe &recipe = entry.recipe;
    out.first_pts = recipe.target && recipe.first ? recipe.first->pts() : TDS_NO_PTS;
    out.last_pts = recipe.target && recipe.last ? recipe.last->pts() : TDS_NO_PTS;
    switch (entry.status) {
    case TDS_STATUS_ENHANCED:
        counts_.enhanced++;
        break;
    case TDS_STATUS_UPSAMPLED:
        counts_.upsampled++;
        break;
    default:
        counts_.repeated++;
    }
    if (recipe.target && !entry.copy_of) {
        previous_ = recipe;
    }
    *picture = out;
    tds_picture_init(&out); // handed over
    entry.recipe = {};
    entry.copy_of.reset();
}

tds_result Session::receive(tds_picture *picture) {
    if (!group_ && can_start()) {
        start_group();
    }
    if (group_) {
        if (!group_->entries[group_->next].done) {
            work();
        }
        hand_out(group_->entries[group_->next], picture);
        if (++group_->next == group_->entries.size()) {
            group_.reset();
        }
        return TDS_OK;
    }
    if (closing_) {
        const FramePtr frame = closing_->frame;
        *picture = share(frame);
        picture->reason = picture->corrupt ? TDS_REASON_CORRUPT : 0;
        counts_.passed++;
        // A boundary of two runs is prepared once.
        first_ = last_ && last_->frame() == frame ? std::move(last_)
                                                  : std::make_shared<Reference>(*engine_, frame);
        last_.reset();
        previous_ = {};
        long_run_ = run_has_lost_hr_ = false;
        closing_.reset();
        merge();
        return TDS_OK;
    }
    return hr_.ended && lr_.ended ? TDS_END : TDS_AGAIN;
}

} // namespace tds
