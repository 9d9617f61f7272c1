// SPDX-License-Identifier: LGPL-2.1-or-later
#include "backends/torchscript/model.h"

#include "backends/torchscript/failure.h"

#include <caffe2/serialize/read_adapter_interface.h>
#include <torch/script.h>
#include <torch/version.h>

#include <algorithm>
#include <cstring>
#include <memory>

namespace tds {
namespace {

using at::Tensor;

// The model file for torch's reader. Not as a stream: a stream made here has the locales of
// the C++ runtime here, which may be another than torch's.
class Bytes : public caffe2::serialize::ReadAdapterInterface {
  public:
    Bytes(const void *data, size_t size) : data_(static_cast<const char *>(data)), size_(size) {}
    size_t size() const override { return size_; }
    size_t read(uint64_t at, void *out, size_t count, const char *) const override {
        count = at < size_ ? std::min<size_t>(count, size_ - at) : 0;
        std::memcpy(out, data_ + at, count);
        return count;
    }

  private:
    const char *data_;
    size_t size_;
};

// The profiling executor would compile the model again for each new shape, which costs
// seconds, and makes the convolutions that models consist of no faster. Only while a model
// runs: freezing it needs the same switch on.
class Plainly {
    torch::jit::GraphOptimizerEnabledGuard plain_{false};
};

Tensor tensor(const c10::IValue &value) {
    if (!value.isTensor()) {
        throw Failure(TDS_ERROR_BACKEND, "the model gave no tensor");
    }
    return value.toTensor();
}

Features list(const c10::IValue &value, const char *method) {
    if (!value.isTensorList()) {
        throw Failure(TDS_ERROR_BACKEND,
                      std::string("the model's method \"") + method + "\" gave no list of tensors");
    }
    return value.toTensorVector();
}

} // namespace

Model::Model(const tds_backend_model &model, at::Device device, at::ScalarType type)
    : features_(model.features != 0) {
    const std::string file = std::string("model file ") + model.path;
    try {
        module_ = torch::jit::load(std::make_shared<Bytes>(model.data, model.size), device);
    } catch (const std::exception &e) {
        if (is_out_of_memory(e)) {
            throw;
        }
        const std::string made = model.torch;
        throw Failure(TDS_ERROR_MODEL,
                      file + ", made by torch " +
                          (made.empty() ? "of a version it does not name" : made) +
                          ": torch " TORCH_VERSION " cannot load it (" + first_line(e.what()) +
                          "); install the torch that made it, or export the model again from "
                          "its weights, with: tds export");
    }
    std::vector<std::string> methods; // beside forward
    if (model.contract > 1) {
        methods = {"features", "enhance"};
    } else if (features_) {
        methods = {"reference", "enhance"};
    }
    if (!module_.find_method("forward")) {
        throw Failure(TDS_ERROR_MODEL, file + ": it has no method \"forward\"");
    }
    for (const std::string &name : methods) {
        if (!module_.find_method(name)) {
            throw Failure(TDS_ERROR_MODEL, file + ": its tds.json promises " +
                                               (model.contract > 1 ? "contract 2" : "features") +
                                               ", but it has no method \"" + name + "\"");
        }
    }
    module_.eval();
    // Not frozen: where a frozen module fails with the optimizing executor off (`Plainly`), torch
    // 2.13 reads past its call stack while it words the error, and no memory is such a failure.
    module_.to(type);
}

Features Model::reference(const Tensor &picture) const {
    const Plainly plain;
    return features_ ? list(module_.get_method("reference")({picture}), "reference")
                     : Features{picture};
}

Tensor Model::between(const Features &first, const Tensor &target, const Features &last,
                      const Tensor &side) const {
    const Plainly plain;
    return tensor(features_
                      ? module_.get_method("enhance")({first, target, last, side})
                      : module_.get_method("forward")({first.at(0), target, last.at(0), side}));
}

Features Model::features(const Tensor &picture, const Tensor &side) const {
    const Plainly plain;
    return list(module_.get_method("features")({picture, side}), "features");
}

Tensor Model::enhance(const Tensor &target, const Features &target_features,
                      const std::vector<Tensor> &references,
                      const std::vector<Features> &reference_features, const Tensor &side) const {
    const Plainly plain;
    c10::impl::GenericList lists(c10::ListType::ofTensors());
    for (const Features &features : reference_features) {
        lists.emplace_back(features);
    }
    return tensor(
        module_.get_method("enhance")({target, target_features, references, lists, side}));
}

Tensor Model::whole(const Tensor &pictures, const Tensor &side) const {
    const Plainly plain;
    return tensor(module_.get_method("forward")({pictures, side}));
}

} // namespace tds
