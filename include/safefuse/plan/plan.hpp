// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: makes a copy_plan from two layouts and the tensors of one scope. Names, shapes and
// dtypes are checked before any byte is read.
#ifndef SAFEFUSE_PLAN_PLAN_HPP
#define SAFEFUSE_PLAN_PLAN_HPP

#include <string_view>
#include <utility>

#include <safefuse/core/result.hpp>
#include <safefuse/layout/layout.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/plan/detail/stages.hpp>
#include <safefuse/plan/plan_options.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// Plans the experts of one scope from one layout to another. Only names, dtypes and shapes are
/// read.
///   scope   the dotted prefix of the experts module, without the last dot
///   fails   no_experts, missing_expert, missing_key, duplicate_expert, unexpected_key,
///           both_layouts (the scope also contains tensors of the destination's layout),
///           shape_mismatch, dtype_mismatch, size_mismatch (the set reports a size that does not
///           fit the dtype and shape), missing_scales (unless options.allow_missing_scales),
///           splits_block, unnested_groups, size_overflow, partial_byte, ambiguous_form,
///           out_of_range (options), file_changed, out_of_memory
template <layout_type From, layout_type To, tensor_set Set>
[[nodiscard]] result<copy_plan> plan(const Set& set SAFEFUSE_LIFETIMEBOUND, std::string_view scope,
                                     const plan_options& options = {}) noexcept {
    static_assert(
        can_become<From, To>,
        "safefuse: the destination's layout places a part that the source's layout lacks or "
        "gives other extents");
    static_assert(
        can_become<To, From>,
        "safefuse: the destination's layout leaves out a part that the source's layout places");
    auto members = detail::tensors_under(set, scope);
    if (!members) return std::move(members).error();
    return detail::plan_members(set, members->view(), scope, From::description, To::description,
                                options);
}
/// Deleted: the plan would refer to a destroyed set.
template <layout_type From, layout_type To, detail::owning_tensor_set Set>
result<copy_plan> plan(const Set&&, std::string_view, const plan_options& = {}) = delete;
/// Chosen for all other types. Its static_asserts explain what is wrong, instead of a list of
/// candidates.
template <class From, class To, class Set>
    requires(!layout_type<From> || !layout_type<To> || !tensor_set<Set>)
result<copy_plan> plan(const Set&, std::string_view, const plan_options& = {}) noexcept {
    static_assert(layout_type<From>,
                  "safefuse: plan<From, To> needs two layouts, and the first type is not a layout");
    static_assert(
        layout_type<To>,
        "safefuse: plan<From, To> needs two layouts, and the second type is not a layout");
    static_assert(
        !detail::is_result<Set>,
        "safefuse: the set is a result: check whether it failed, then pass its value, *set");
    static_assert(detail::is_result<Set> || tensor_set<Set>,
                  "safefuse: the first argument of plan is not a tensor_set");
    return failure{};
}

/// Plans between layouts that are chosen at run time.
///   fails   as plan<From, To>; also missing_key (`to` places a part that `from` lacks) and
///           unexpected_key (`to` lacks a part that `from` places)
template <tensor_set Set>
[[nodiscard]] result<copy_plan> plan(const Set& set SAFEFUSE_LIFETIMEBOUND, std::string_view scope,
                                     const layout_description& from, const layout_description& to,
                                     const plan_options& options = {}) noexcept {
    if (!can_become_layout(from, to))
        return failure{.code = errc::missing_key,
                       .scope = text{scope},
                       .detail = "the source's layout lacks a part that the destination's places"};
    if (!can_become_layout(to, from))
        return failure{
            .code = errc::unexpected_key,
            .scope = text{scope},
            .detail = "the destination's layout leaves out a part that the source's places"};
    auto members = detail::tensors_under(set, scope);
    if (!members) return std::move(members).error();
    return detail::plan_members(set, members->view(), scope, from, to, options);
}
template <detail::owning_tensor_set Set>
result<copy_plan> plan(const Set&&, std::string_view, const layout_description&,
                       const layout_description&, const plan_options& = {}) = delete;

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
