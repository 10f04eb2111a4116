// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the list of all tensors of a model. Each has its name in the model and its origin: a
// stored tensor, or an output of the plan of a scope. Rewrites, loaders and engines loop over it.
// find_model makes the list.
#ifndef SAFEFUSE_PLAN_MODEL_TENSORS_HPP
#define SAFEFUSE_PLAN_MODEL_TENSORS_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/index_iterator.hpp>
#include <safefuse/core/natural_order.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/layout/engine.hpp>
#include <safefuse/layout/family.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/plan/engine.hpp>
#include <safefuse/plan/plan_options.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

namespace detail {
struct model_access;
}

/// The origin of a tensor of a model: tensor `number` of the set, unchanged, or output `number` of
/// the plan of a scope.
struct tensor_origin {
    /// The value of `scope` for a tensor that is stored in the form of the model.
    static constexpr std::uint32_t passthrough = ~std::uint32_t{0};

    std::uint32_t scope = passthrough;  ///< index of a scope, or passthrough
    std::uint32_t number = 0;  ///< index in the set, or among the outputs of the scope's plan

    /// Whether it is a tensor of the set, possibly under another name. Otherwise it is an output of
    /// a plan.
    [[nodiscard]] constexpr bool is_stored() const noexcept { return scope == passthrough; }
};

/// A tensor of a model: name, dtype and shape as the model has them.
struct model_tensor : tensor_spec {
    std::uint64_t size_bytes = 0;  ///< size of the buffer for it
    tensor_origin from;            ///< where its bytes come from
};

/// All tensors of a model. The list is made from names, dtypes and shapes; no tensor bytes are
/// read.
///   lifetime  the tensor set must outlive it and may be moved, as with copy_plan. Everything that
///           the options point to must outlive it, too. The family and the engine are copied. What
///           they point to must outlive the list; for those of the library it is static
class model_tensors {
public:
    /// Returned by a search for a name that does not exist.
    static constexpr std::size_t npos = ~std::size_t{0};

    /// The number of tensors.
    [[nodiscard]] std::size_t size() const noexcept { return tensors_.size(); }
    /// Tensor i, in natural order of the names (layer 2 before layer 10).
    ///   lifetime  name and shape belong to the list
    [[nodiscard]] model_tensor operator[](std::size_t i) const noexcept SAFEFUSE_LIFETIMEBOUND {
        model_tensor out{tensors_[i], 0, origins_[i]};
        static_cast<void>(tensor_size(out.type, out.shape, out.size_bytes));  // was checked to fit
        return out;
    }
    /// @{
    /// For range-based loops over all tensors.
    [[nodiscard]] index_iterator<model_tensors> begin() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return {*this, 0};
    }
    [[nodiscard]] index_iterator<model_tensors> end() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return {*this, size()};
    }
    /// @}
    /// The index of the tensor with this name, or npos.
    [[nodiscard]] std::size_t index_of(std::string_view name) const noexcept {
        std::size_t first = 0, last = tensors_.size();
        while (first < last) {
            const std::size_t middle = first + (last - first) / 2;
            const bool is_before = natural_less(tensors_[middle].name, name);
            (is_before ? first : last) = is_before ? middle + 1 : middle;
        }
        return first < tensors_.size() && tensors_[first].name == name ? first : npos;
    }

    /// The names, dtypes and shapes, without sizes and origins.
    [[nodiscard]] span<const tensor_spec> tensors() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return tensors_.view();
    }
    /// The origin of tensor i.
    [[nodiscard]] tensor_origin origin_of(std::size_t i) const noexcept { return origins_[i]; }
    /// The scopes that are planned.
    [[nodiscard]] const experts_scopes& scopes() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return scopes_;
    }
    /// Makes the plan of a scope at each call, because all plans together would take as much memory
    /// as the headers.
    ///   fails   as `plan` of a scope
    [[nodiscard]] result<copy_plan> plan_of(std::size_t scope) const noexcept {
        if (has_engine_)
            return detail::plan_for_engine(set_, family_, scopes_[scope], engine_, options_);
        return detail::plan_found(set_, family_, scopes_[scope], options_);
    }
    /// The sum of the bytes of all tensors.
    [[nodiscard]] std::uint64_t total_bytes() const noexcept { return total_bytes_; }
    /// The tensors that it was planned from.
    [[nodiscard]] const tensor_set_ref& set() const noexcept SAFEFUSE_LIFETIMEBOUND { return set_; }

private:
    friend struct detail::model_access;
    model_tensors(const tensor_set_ref& set, const family_description& family,
                  const engine_entry* engine, const plan_options& options) noexcept
        : set_{set}, family_{family}, has_engine_{engine != nullptr}, options_{options} {
        if (engine != nullptr) engine_ = *engine;
        options_.destination_scope = {};
    }

    tensor_set_ref set_;
    family_description family_;  // read in the direction of the plans
    bool has_engine_;
    engine_entry engine_{};
    plan_options options_;
    experts_scopes scopes_;
    vector<tensor_spec> tensors_;
    vector<tensor_origin> origins_;
    vector<char> arena_;
    vector<std::uint64_t> extents_;
    std::uint64_t total_bytes_ = 0;
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
