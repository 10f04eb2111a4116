// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: an engine as data: the layout that it holds experts in, and where it expects them.
#ifndef SAFEFUSE_PLAN_ENGINE_HPP
#define SAFEFUSE_PLAN_ENGINE_HPP

#include <cstddef>
#include <string_view>
#include <utility>

#include <safefuse/core/result.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/layout/layout.hpp>
#include <safefuse/layout/rename.hpp>
#include <safefuse/plan/plan.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// The scope of an engine's experts is the stored one.
inline constexpr std::string_view same_scope = "{scope}";
/// It is the stored one without its last segment: the module around the experts.
inline constexpr std::string_view parent_scope = "{parent}";

/// An engine's layout by name, for programs that learn it at run time: plan(set, scope, layouts::per_expert::description, *it->layout).
struct engine_entry {
    std::string_view name;             ///< as find_engine takes it
    const layout_description* layout;  ///< never null
    /// Where the engine expects experts that are stored in a scope: same_scope, parent_scope, or a name in which {i} is the
    /// last number of the stored scope, the layer's.
    std::string_view scope = same_scope;
};

/// The scope that an engine expects experts in which are stored in `stored`.
///   fails   out_of_range (no number in the stored scope, or no segment before its last one), out_of_memory
[[nodiscard]] inline result<text> engine_scope(const engine_entry& engine, std::string_view stored) noexcept {
    const auto copied = [](std::string_view name) noexcept -> result<text> {
        text out{name};
        if (out.size() != name.size()) return failure{.code = errc::out_of_memory};
        return out;
    };
    const auto nowhere = [&](const char* why) noexcept {
        return failure{.code = errc::out_of_range, .scope = text{stored}, .detail = text{why}};
    };
    if (engine.scope == same_scope) return copied(stored);
    const std::size_t dot = stored.rfind('.');
    if (engine.scope == parent_scope) {
        if (dot == std::string_view::npos) return nowhere("the engine's scope is the one around it, and there is none");
        return copied(stored.substr(0, dot));
    }
    detail::found_pattern layer;
    for (std::size_t begin = 0; begin <= stored.size();) {
        std::size_t end = stored.find('.', begin);
        if (end == std::string_view::npos) end = stored.size();
        detail::found_pattern found;
        if (detail::begins_with_pattern(stored.substr(begin, end - begin), number_hole, found)) layer = found;
        begin = end + 1;
    }
    if (layer.numbers[0].empty()) return nowhere("the engine's scope has the layer's number, and this one has none");
    text out;
    if (!detail::append_pattern(out, engine.scope, layer)) return failure{.code = errc::out_of_memory};
    return out;
}

namespace detail {

/// Plans a scope that experts_scopes::find found with `unfuse` for the same set.
[[nodiscard]] inline result<copy_plan> plan_for_engine(tensor_set_ref set, const family_description& unfuse,
                                                       const experts_scope& scope, const engine_entry& engine,
                                                       plan_options options) noexcept {
    if (scope.module != 0) return plan_found(set, unfuse, scope, options);
    if (scope.form == scope_state::mixed) return failure{.code = errc::both_layouts, .scope = text{scope.name}};
    const auto destination = engine_scope(engine, scope.form == scope_state::pending ? scope.destination_name : scope.name);
    if (!destination) return destination.error();
    options.destination_scope = *destination;
    const auto from = [&](const layout_description& layout, scope_state form) noexcept -> result<copy_plan> {
        if (!can_become_layout(layout, *engine.layout))
            return failure{.code = errc::missing_key,
                           .scope = text{scope.name},
                           .detail = "the engine's layout places a part that the family does not have"};
        return plan_members(set, scope.tensors, scope.name, layout, *engine.layout, options, form);
    };
    auto plan = from(scope.form == scope_state::pending ? *unfuse.from : *unfuse.to, scope.form);
    if (plan || plan.error().code != errc::shape_mismatch || scope.form == scope_state::done ||
        !spelled_alike(*unfuse.from, *unfuse.to))
        return plan;
    auto other = from(*unfuse.to, scope_state::done);  // the forms share their names: shapes tell
    return other ? std::move(other) : std::move(plan);
}

}  // namespace detail

/// Plans the experts of one scope for an engine, from either form of a family. `unfuse` is the family from the model to the hub
/// (family_entry::unfuse, inverse_of), with which `scope` was found; modules without experts become what the hub stores.
///   fails   missing_key (the engine's layout places a part that the family lacks), and as `plan` of a scope and engine_scope
template <tensor_set Set>
[[nodiscard]] result<copy_plan> plan(const Set& set SAFEFUSE_LIFETIMEBOUND, const experts_scope& scope,
                                     const family_description& unfuse, const engine_entry& engine,
                                     const plan_options& options = {}) noexcept {
    return detail::plan_for_engine(set, unfuse, scope, engine, options);
}
template <detail::owning_tensor_set Set>
result<copy_plan> plan(const Set&&, const experts_scope&, const family_description&, const engine_entry&,
                       const plan_options& = {}) = delete;

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
