// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the plan of a rewrite: every tensor of the new checkpoint by name, and the origin of
// its bytes. Making it reads names, dtypes and shapes only. rewrite.hpp runs it.
#ifndef SAFEFUSE_WRITE_REWRITE_PLAN_HPP
#define SAFEFUSE_WRITE_REWRITE_PLAN_HPP

#include <cstddef>
#include <cstdint>
#include <utility>

#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/detect/detail/checked_scopes.hpp>
#include <safefuse/layout/engine.hpp>
#include <safefuse/layout/family.hpp>
#include <safefuse/plan/detail/model_access.hpp>
#include <safefuse/plan/model_tensors.hpp>
#include <safefuse/plan/plan_options.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

namespace detail {
class plan_repacker;
}  // namespace detail

/// Every tensor of the new checkpoint and the origin of its bytes: a model_tensors, plus the order
/// and the alignment that the writer must use. Making it reads names, dtypes and shapes only.
///   lifetime  the tensor set must outlive it and may be moved, as with copy_plan. Everything that
///           the options point to must outlive it, too
class rewrite_plan {
public:
    /// The origin of a tensor.
    using origin = tensor_origin;
    /// The value of origin::scope for a tensor that is stored in the form of the model.
    static constexpr std::uint32_t passthrough = tensor_origin::passthrough;

    /// Plans all scopes of the set. `options` apply to each scope, except destination_scope, which
    /// is ignored. If there is nothing to fuse, no tensor changes.
    ///   fails   unknown_experts (a tensor looks like an expert and is in no scope;
    ///           options.keep_unknown passes such tensors through, and scopes with leftovers as
    ///           well), duplicate_tensor (two tensors would get the same name), size_mismatch (the
    ///           set reports a size that does not fit the dtype and shape), size_overflow (sum of
    ///           all tensors), shape_mismatch (the shapes claim more than a million additional
    ///           tensors), and as `plan` of a scope
    static result<rewrite_plan> make(tensor_set_ref set, const family_description& family,
                                     direction way = direction::forward,
                                     const plan_options& options = {}) noexcept {
        return make_for(set, family.in(way), nullptr, options);
    }

    /// Plans a rewrite for an engine: experts get its layout and names, all other tensors keep the
    /// form of the hub. The set may be in either form.
    ///   fails   as `make`, and as `plan` for an engine
    static result<rewrite_plan> make(tensor_set_ref set, const family_description& family,
                                     const engine_entry& engine,
                                     const plan_options& options = {}) noexcept {
        return make_for(set, family.inverse(), &engine, options);
    }

    /// The tensors of the new checkpoint as a model_tensors, for loops.
    [[nodiscard]] const model_tensors& model() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return model_;
    }
    /// The tensors of the new checkpoint, in natural order of their names (layer 2 before layer
    /// 10).
    [[nodiscard]] span<const tensor_spec> tensors() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return model_.tensors();
    }
    /// The origin of tensor i of tensors().
    [[nodiscard]] origin origin_of(std::size_t i) const noexcept { return model_.origin_of(i); }
    /// The scopes that are planned.
    [[nodiscard]] const experts_scopes& scopes() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return model_.scopes();
    }
    /// The sum of the sizes of all tensors of the new checkpoint, in bytes.
    [[nodiscard]] std::uint64_t total_bytes() const noexcept { return model_.total_bytes(); }
    /// The tensors that it was planned from.
    [[nodiscard]] const tensor_set_ref& set() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return model_.set();
    }
    /// For write_options: the tensors that must be in one file, one after the other. Empty unless
    /// repack_plan made the plan.
    [[nodiscard]] span<const std::uint32_t> groups() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return groups_.view();
    }
    /// For write_options::data_alignment, in bytes. It is 8 unless repack_plan made the plan.
    [[nodiscard]] std::uint64_t data_alignment() const noexcept { return data_alignment_; }
    /// Makes the plan of a scope at each call, because all plans together would take as much memory
    /// as the headers.
    [[nodiscard]] result<copy_plan> plan_of(std::uint32_t scope) const noexcept {
        return model_.plan_of(scope);
    }

private:
    friend class detail::plan_repacker;
    explicit rewrite_plan(model_tensors&& model) noexcept : model_{std::move(model)} {}

    static result<rewrite_plan> make_for(const tensor_set_ref& set,
                                         const family_description& family,
                                         const engine_entry* engine,
                                         const plan_options& options) noexcept {
        auto scopes =
            detail::checked_scopes(set, family, experts_scopes::find(set, family), options);
        if (!scopes) return std::move(scopes).error();
        auto model = detail::model_access::make(set, family, engine, options, std::move(*scopes));
        if (!model) return std::move(model).error();
        return rewrite_plan{std::move(*model)};
    }

    model_tensors model_;
    vector<std::uint32_t> groups_;
    std::uint64_t data_alignment_ = 8;
};

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
