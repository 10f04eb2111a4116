// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: plans the experts of one scope for an inference engine.
#ifndef SAFEFUSE_PLAN_ENGINE_HPP
#define SAFEFUSE_PLAN_ENGINE_HPP

#include <utility>

#include <safefuse/core/result.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/layout/engine.hpp>
#include <safefuse/plan/plan.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

namespace detail {

/// Plans a scope that experts_scopes::find found in the same set. `unfuse` is the family read from
/// the model to the hub.
[[nodiscard]] inline result<copy_plan> plan_for_engine(tensor_set_ref set,
                                                       const family_description& unfuse,
                                                       const experts_scope& scope,
                                                       const engine_entry& engine,
                                                       plan_options options) noexcept {
    if (scope.module != 0) return plan_found(set, unfuse, scope, options);
    if (scope.form == scope_state::mixed)
        return failure{.code = errc::both_layouts, .scope = text{scope.name}};
    const auto destination = engine_scope(
        engine, scope.form == scope_state::pending ? scope.destination_name : scope.name);
    if (!destination) return destination.error();
    options.destination_scope = *destination;
    const auto from = [&](const layout_description& layout,
                          scope_state form) noexcept -> result<copy_plan> {
        if (!can_become_layout(layout, *engine.layout))
            return failure{
                .code = errc::missing_key,
                .scope = text{scope.name},
                .detail = "the engine's layout places a part that the family does not have"};
        return plan_members(set, scope.tensors, scope.name, layout, *engine.layout, options, form);
    };
    auto plan = from(scope.form == scope_state::pending ? *unfuse.from : *unfuse.to, scope.form);
    if (plan || plan.error().code != errc::shape_mismatch || scope.form == scope_state::done ||
        !spelled_alike(*unfuse.from, *unfuse.to))
        return plan;
    // Both forms have the same names: only shapes tell which one it is.
    auto other = from(*unfuse.to, scope_state::done);
    return other ? std::move(other) : std::move(plan);
}

}  // namespace detail

/// Plans the experts of one scope for an engine, from either form of a family. `scope` must have
/// been found in direction::inverse, because an engine wants the names of the hub. Modules without
/// experts get the hub's form.
///   fails   missing_key (the engine's layout places a part that the family lacks), and as `plan`
///           of a scope and engine_scope
template <tensor_set Set>
[[nodiscard]] result<copy_plan> plan(const Set& set SAFEFUSE_LIFETIMEBOUND,
                                     const experts_scope& scope, const family_description& family,
                                     const engine_entry& engine,
                                     const plan_options& options = {}) noexcept {
    return detail::plan_for_engine(set, family.inverse(), scope, engine, options);
}
template <detail::owning_tensor_set Set>
result<copy_plan> plan(const Set&&, const experts_scope&, const family_description&,
                       const engine_entry&, const plan_options& = {}) = delete;

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
