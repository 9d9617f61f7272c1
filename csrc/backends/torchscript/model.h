// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A TorchScript archive that was loaded, and its methods (docs/model.md): tensors in, tensors
// out. Nothing here knows of pictures or of jobs.
#pragma once

#include "backends/backend.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>

#include <string>
#include <vector>

namespace tds {

using Features = std::vector<at::Tensor>;

class Model {
  public:
    // Throws Failure when torch cannot load it, or a method is missing.
    // `type`: of its weights, and of all it computes.
    Model(const tds_backend_model &model, at::Device device, at::ScalarType type);

    // Contract 1. `picture`, `target` and the references are of the weights' type.
    Features reference(const at::Tensor &picture) const;
    at::Tensor between(const Features &first, const at::Tensor &target, const Features &last,
                       const at::Tensor &side) const;

    // Contract 2. All pictures and sides are float32 whatever the weights are.
    Features features(const at::Tensor &picture, const at::Tensor &side) const;
    at::Tensor enhance(const at::Tensor &target, const Features &target_features,
                       const std::vector<at::Tensor> &references,
                       const std::vector<Features> &reference_features,
                       const at::Tensor &side) const;
    at::Tensor whole(const at::Tensor &pictures, const at::Tensor &side) const;

  private:
    torch::jit::Module module_;
    bool features_;
};

} // namespace tds
