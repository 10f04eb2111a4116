// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the plan of experts that already have the wanted form, with fields that the layout
// cannot split: every tensor is copied whole.
#ifndef SAFEFUSE_PLAN_DETAIL_KEPT_PLAN_HPP
#define SAFEFUSE_PLAN_DETAIL_KEPT_PLAN_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/sort.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/layout/detail/layout_names.hpp>
#include <safefuse/layout/layout.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/plan/detail/stages.hpp>
#include <safefuse/plan/plan_options.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// Whether the tensors may still be copied whole after a plan failed with this code.
[[nodiscard]] constexpr bool may_be_kept(errc code) noexcept {
    return code == errc::splits_block || code == errc::shape_mismatch ||
           code == errc::dtype_mismatch || code == errc::unexpected_key ||
           code == errc::missing_scales || code == errc::missing_key;
}

/// Whether only some experts or slices are wanted. They require a layout that understands every
/// field.
[[nodiscard]] constexpr bool is_selection(const plan_options& options) noexcept {
    return options.first_expert != 0 || options.end_expert != unknown ||
           !options.sliced_extent.empty();
}

/// Whether elements are numbers without scales.
[[nodiscard]] constexpr bool is_plain_float(dtype type) noexcept {
    return type == dtype::f64 || type == dtype::f32 || type == dtype::f16 || type == dtype::bf16;
}

/// A plan whose outputs are the tensors themselves.
///   why     what the layout cannot split
///   fails   out_of_memory
[[nodiscard]] inline result<copy_plan> move_whole(
    const tensor_set_ref& set, span<const std::uint32_t> members, std::string_view scope,
    const plan_options& options, std::uint64_t expert_count, const failure& why) noexcept {
    const std::string_view to =
        options.destination_scope.empty() ? scope : options.destination_scope;
    output_list list;
    copy_list copies;
    vector<std::uint32_t> tensors;
    text reason = why.message();
    if (reason.empty() || !list.characters.append(scope.data(), scope.size())) return no_memory();
    for (const std::uint32_t member : members) {
        const tensor_spec spec = set.spec(member);
        const tensor_location place = set.place(member);
        const std::string_view local = spec.name.substr(scope.size());  // including its dot
        text full;
        if (!full.append(to) || !full.append(local)) return no_memory();
        const plan_output output{
            {{full.view().data(), full.size()}, spec.type, spec.shape}, {}, place.size_bytes, 0};
        const copy_block block{.source = place.source,
                               .output = static_cast<std::uint32_t>(list.outputs.size()),
                               .source_offset = place.offset,
                               .run_bytes = place.size_bytes};
        if (!list.characters.append(full.view().data(), full.size()) ||
            !list.extents.append(spec.shape.data(), spec.shape.size()) ||
            !list.outputs.push(output) || !tensors.push(member) ||
            (place.size_bytes != 0 && !copies.blocks.push(block)))
            return no_memory();
    }
    bind(list, scope.size(), to.size());
    if (auto ordered = order_copies(copies); !ordered) return std::move(ordered).error();
    if (!sort_numbers(tensors.view())) return no_memory();
    return plan_access::make(set, scope.size(), scope_state::done, expert_count, std::move(list),
                             std::move(copies), std::move(tensors), std::move(reason));
}

/// Plans `members` of `set` unchanged. Their names fit `layout`, and planning them failed with
/// `why`.
///   are_experts   whether values that are numbers must have the layout's shapes; other modules in
///                 the model's form are not checked
///   fails   as `why` if the values themselves do not have that form; out_of_memory
[[nodiscard]] inline result<copy_plan> keep_members(const tensor_set_ref& set,
                                                    span<const std::uint32_t> members,
                                                    std::string_view scope,
                                                    const layout_description& layout,
                                                    const plan_options& options, bool are_experts,
                                                    failure why) noexcept {
    if (!may_be_kept(why.code) || is_selection(options)) return why;
    vector<std::uint32_t> values;
    vector<bool> has_value;
    if (!has_value.resize(layout.tensors.size(), false)) return no_memory();
    bool all_numbers = true, same_experts = true, has_scales = false;
    for (const std::uint32_t member : members) {
        const tensor_spec spec = set.spec(member);
        const matched_name name = match(layout, spec.name.substr(scope.size() + 1));
        if (name.verdict != name_verdict::tensor ||
            layout.fields[name.field].field->role != field_role::value) {
            has_scales = true;
            continue;
        }
        has_value[name.tensor] = true;
        all_numbers = all_numbers && is_plain_float(spec.type);
        if (spec.shape.empty()) return why;
        if (!values.empty() && spec.shape[0] != set.spec(values[0]).shape[0]) same_experts = false;
        if (!values.push(member)) return no_memory();
    }
    for (const bool each : has_value)
        if (!each) return why;
    // values that are numbers or unpacked codes show whether the rest is plausible; how codes are
    // packed is up to their writer
    plan_options whole = options;
    whole.allow_missing_scales = true;
    auto plan = plan_members(set, values.view(), scope, layout, layout, whole, scope_state::done);
    if (!plan && plan.error().code == errc::out_of_memory) return std::move(plan).error();
    if (!plan && are_experts && (all_numbers || !same_experts || !has_scales)) return why;
    return move_whole(set, members, scope, options,
                      plan ? plan->expert_count() : set.spec(values[0]).shape[0], why);
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
