// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: plans a scope and fuses it in one call. The arguments are those of `plan`, then the
// buffers: a list with one buffer per output, in the order of the outputs, or a callable that
// returns the memory of each output.
//
//   fuse<families::qwen2_moe>(checkpoint, scope, [&](const plan_output& output) { return ...; });
#ifndef SAFEFUSE_RUN_FUSE_SCOPE_HPP
#define SAFEFUSE_RUN_FUSE_SCOPE_HPP

#include <concepts>
#include <cstddef>
#include <string_view>
#include <utility>

#include <safefuse/core/progress.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/plan/engine.hpp>
#include <safefuse/plan/plan.hpp>
#include <safefuse/plan/plan_options.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/run/fuse.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Memory for outputs: a list with one buffer per output, or a callable that returns one buffer at
/// a time.
template <class T>
concept output_buffers =
    std::convertible_to<T&, span<const span<std::byte>>> || buffer_list<T> || buffer_provider<T>;

namespace detail {

/// Runs a plan if it was made. Otherwise returns its failure.
template <class Buffers>
result<void> fuse_planned(result<copy_plan>&& plan, Buffers& buffers,
                          const progress_ref& progress) {
    if (!plan) return std::move(plan).error();
    return fuse(*plan, buffers, progress);
}

}  // namespace detail

/// @{
/// Plans one scope from one layout to another and makes all its outputs. The set need not outlive
/// the call.
///   fails   as `plan` with the same arguments (then no buffer is requested or written), and as
///           fuse(plan, buffers), for example wrong_buffer_size, which names the output
template <layout_type From, layout_type To, tensor_set Set, output_buffers Buffers>
result<void> fuse(const Set& set, std::string_view scope, Buffers&& buffers,
                  const plan_options& options = {}, progress_ref progress = {}) {
    return detail::fuse_planned(plan<From, To>(set, scope, options), buffers, progress);
}
/// Overload for layouts that are chosen at run time.
template <tensor_set Set, output_buffers Buffers>
result<void> fuse(const Set& set, std::string_view scope, const layout_description& from,
                  const layout_description& to, Buffers&& buffers, const plan_options& options = {},
                  progress_ref progress = {}) {
    return detail::fuse_planned(plan(set, scope, from, to, options), buffers, progress);
}
/// Overload for a family as a type, from the hub's form to the model's form.
template <family_type Family, tensor_set Set, output_buffers Buffers>
result<void> fuse(const Set& set, std::string_view scope, Buffers&& buffers,
                  const plan_options& options = {}, progress_ref progress = {}) {
    return detail::fuse_planned(plan<Family>(set, scope, options), buffers, progress);
}
/// Overload for a family as a type, in direction `way`.
template <family_type Family, tensor_set Set, output_buffers Buffers>
result<void> fuse(const Set& set, std::string_view scope, direction way, Buffers&& buffers,
                  const plan_options& options = {}, progress_ref progress = {}) {
    return detail::fuse_planned(plan<Family>(set, scope, way, options), buffers, progress);
}
/// Overload for a family that is chosen at run time.
template <tensor_set Set, output_buffers Buffers>
result<void> fuse(const Set& set, std::string_view scope, const family_description& family,
                  direction way, Buffers&& buffers, const plan_options& options = {},
                  progress_ref progress = {}) {
    return detail::fuse_planned(plan(set, scope, family, way, options), buffers, progress);
}
/// Overload for a scope that find_scopes or experts_scopes::find found with this set and family.
template <tensor_set Set, output_buffers Buffers>
result<void> fuse(const Set& set, const experts_scope& scope, const family_description& family,
                  direction way, Buffers&& buffers, const plan_options& options = {},
                  progress_ref progress = {}) {
    return detail::fuse_planned(plan(set, scope, family, way, options), buffers, progress);
}
/// Overload for an engine. The scope must have been found in direction::inverse; see `plan` for an
/// engine.
template <tensor_set Set, output_buffers Buffers>
result<void> fuse(const Set& set, const experts_scope& scope, const family_description& family,
                  const engine_entry& engine, Buffers&& buffers, const plan_options& options = {},
                  progress_ref progress = {}) {
    return detail::fuse_planned(plan(set, scope, family, engine, options), buffers, progress);
}
/// @}

/// Chosen for all other types. Its static_asserts explain what is missing, instead of a list of
/// candidates.
template <class Family, class Set, class Buffers>
    requires(!family_type<Family> || !tensor_set<Set> || !output_buffers<Buffers>)
result<void> fuse(const Set&, std::string_view, Buffers&&, const plan_options& = {},
                  progress_ref = {}) noexcept {
    static_assert(
        !detail::is_result<Set>,
        "safefuse: the set is a result: check whether it failed, then pass its value, *set");
    static_assert(family_type<Family>,
                  "safefuse: fuse<Family> needs a family, and fuse<From, To> two layouts");
    static_assert(detail::is_result<Set> || tensor_set<Set>,
                  "safefuse: the first argument of fuse is not a tensor_set");
    static_assert(output_buffers<Buffers>,
                  "safefuse: fuse needs a list of buffers of std::byte, or "
                  "a callable that takes a plan_output and returns one that outlives the call");
    return {};
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
