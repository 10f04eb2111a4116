// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: runs the stages of a plan. The API is in plan.hpp.
//
//     inventory -> geometry -> selection -> (outputs -> copies, field by field) -> copy_plan
//
// If the tensors fit two forms of a field, the stages after geometry run for both and must make the
// same bytes. Each stage is a function from values to values in a file of its own. Outputs and
// copies are made field by field, so that a failure names the first field that cannot be planned.
#ifndef SAFEFUSE_PLAN_DETAIL_STAGES_HPP
#define SAFEFUSE_PLAN_DETAIL_STAGES_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/sort.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/layout/layout.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/plan/detail/copies.hpp>
#include <safefuse/plan/detail/geometry.hpp>
#include <safefuse/plan/detail/inventory.hpp>
#include <safefuse/plan/detail/other_forms.hpp>
#include <safefuse/plan/detail/outputs.hpp>
#include <safefuse/plan/detail/selection.hpp>
#include <safefuse/plan/plan_options.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// Indices of the tensors whose names begin with `scope` and a dot.
inline result<vector<std::uint32_t>> tensors_under(tensor_set_ref set,
                                                   std::string_view scope) noexcept {
    vector<std::uint32_t> out;
    source_check check{set};
    for (std::size_t i = 0; i < set.size(); ++i) {
        if (auto same = check.before(set.place(i).source); !same) return std::move(same).error();
        const std::string_view name = set.spec(i).name;
        if (name.size() > scope.size() && name[scope.size()] == '.' && name.starts_with(scope))
            if (!out.push(static_cast<std::uint32_t>(i))) return detail::lack_of_memory{};
    }
    return out;
}

/// Constructs a copy_plan, as a friend.
struct plan_access {
    SAFEFUSE_NOINLINE static copy_plan make(const tensor_set_ref& set, std::size_t scope_size,
                                            scope_state form, std::uint64_t expert_count,
                                            output_list&& list, copy_list&& copies,
                                            vector<std::uint32_t>&& tensors,
                                            text&& kept_for = {}) noexcept {
        return copy_plan{set,
                         form,
                         expert_count,
                         scope_size,
                         std::move(list.characters),
                         std::move(list.extents),
                         std::move(list.outputs),
                         std::move(copies.blocks),
                         std::move(copies.equal_blocks),
                         std::move(tensors),
                         std::move(kept_for)};
    }
};

/// The tensors of an inventory, ascending.
///   fails   out_of_memory
inline result<vector<std::uint32_t>> tensors_of(const inventory& of) noexcept {
    vector<std::uint32_t> out;
    for (const found_tensor& each : of.found)
        if (!out.push(each.index)) return no_memory();
    if (!sort_numbers(out.view())) return no_memory();
    return out;
}

/// The outputs and the copies of all fields of one tensor of the destination.
///   scope   of the destination
inline result<void> plan_tensor(output_list& list, copy_list& copies, const inventory& of,
                                const geometry& shapes, const selection& kept,
                                std::string_view scope, const tensor_description& tensor,
                                const layout_description& to) noexcept {
    field_origins from = find_parts(*of.layout, shapes.extents, tensor);
    for (const field_suffix& spelled : to.fields) {
        from.field = find_field(of, from, spelled.field->name);
        if (from.field == absent) continue;
        auto output = lay_out(of, shapes, kept, scope, tensor, spelled, from, list.outputs.size());
        if (!output) return std::move(output).error();
        if (auto added = add_outputs(list, *output, scope); !added) return added;
        if (auto made = add_copies(copies, of, shapes, kept, *output, scope); !made) return made;
    }
    return {};
}

/// The result of the stages after geometry.
struct made_copies {
    output_list list;
    copy_list copies;
    std::uint64_t expert_count = 0;
};

/// The stages after geometry: selection, outputs, copies.
///   scope, to_scope   of the source and of the destination
inline result<made_copies> make_copies(const inventory& of, const geometry& shapes,
                                       std::string_view scope, std::string_view to_scope,
                                       const layout_description& to,
                                       const plan_options& options) noexcept {
    auto kept = select_ranges(of.groups, shapes.extents, options);
    if (!kept) return std::move(kept).error();
    made_copies out;
    out.expert_count = kept->expert_count;
    if (!out.list.characters.append(scope.data(), scope.size())) return no_memory();
    for (const tensor_description& tensor : to.tensors)
        if (auto done = plan_tensor(out.list, out.copies, of, shapes, *kept, to_scope, tensor, to);
            !done)
            return std::move(done).error();
    if (auto named = check_fields(of, to); !named) return std::move(named).error();
    bind(out.list, scope.size(), to_scope.size());
    if (auto ordered = order_copies(out.copies); !ordered) return std::move(ordered).error();
    return out;
}

[[nodiscard]] inline bool same_blocks(span<const copy_block> a, span<const copy_block> b) noexcept {
    bool same = a.size() == b.size();
    for (std::size_t i = 0; same && i < a.size(); ++i) same = a[i] == b[i];
    return same;
}
/// Whether two plans of the same tensors make equal outputs from equal copies. A single number may
/// have the shape [] in one and [1] in the other.
[[nodiscard]] inline bool same_bytes(const made_copies& a, const made_copies& b) noexcept {
    bool same = a.list.outputs.size() == b.list.outputs.size() &&
                same_blocks(a.copies.blocks.view(), b.copies.blocks.view()) &&
                same_blocks(a.copies.equal_blocks.view(), b.copies.equal_blocks.view());
    for (std::size_t i = 0; same && i < a.list.outputs.size(); ++i)
        same = a.list.outputs[i].name == b.list.outputs[i].name &&
               a.list.outputs[i].size_bytes == b.list.outputs[i].size_bytes;
    return same;
}

/// Checks that every other form that the tensors of a field fit makes the same bytes, or no plan.
///   fails   ambiguous_form, out_of_memory
[[nodiscard]] SAFEFUSE_COLD inline result<void> check_other_forms(
    const inventory& of, const geometry& shapes, std::uint32_t field, const made_copies& made,
    std::string_view scope, std::string_view to_scope, const layout_description& to,
    const plan_options& options) noexcept {
    for (const field_form& form : of.layout->fields[field].field->forms) {
        // forms before the chosen one do not fit
        if (&form <= shapes.forms[field] || (is_packed(form) && !has_integers(of, field))) continue;
        bool fits = false;
        auto other = with_form(of, shapes, field, form, fits);
        if (!other) return std::move(other).error();
        if (!fits) continue;
        const auto remade = make_copies(of, *other, scope, to_scope, to, options);
        if (!remade && remade.error().code == errc::out_of_memory) return remade.error();
        if (remade && !same_bytes(made, *remade))
            return two_forms(of, field, *shapes.forms[field], form);
    }
    return {};
}

/// The stages in their order: inventory, geometry, selection, outputs, copies.
inline result<copy_plan> run_stages(const tensor_set_ref& set, span<const std::uint32_t> members,
                                    std::string_view scope, const layout_description& from,
                                    const layout_description& to, const plan_options& options,
                                    scope_state form) noexcept {
    const std::string_view to_scope =
        options.destination_scope.empty() ? scope : options.destination_scope;
    auto found =
        take_inventory(set, members, scope, from, to, to_scope != scope, options.known_extents);
    if (!found) return std::move(found).error();
    auto shapes = solve_geometry(*found, options.allow_missing_scales);
    if (!shapes) return std::move(shapes).error();
    auto made = make_copies(*found, *shapes, scope, to_scope, to, options);
    if (!made) return std::move(made).error();
    for (std::uint32_t f = 0; f < shapes->forms.size(); ++f)
        if (shapes->forms[f] != nullptr)
            if (auto only =
                    check_other_forms(*found, *shapes, f, *made, scope, to_scope, to, options);
                !only)
                return std::move(only).error();
    auto tensors = tensors_of(*found);
    if (!tensors) return std::move(tensors).error();
    return plan_access::make(set, scope.size(), form, made->expert_count, std::move(made->list),
                             std::move(made->copies), std::move(*tensors));
}

/// Plans the tensors `members` of a set, whose names begin with `scope` and a dot.
///   form    the plan's source_form()
///   fails   as `plan`
SAFEFUSE_NOINLINE inline result<copy_plan> plan_members(
    const tensor_set_ref& set, span<const std::uint32_t> members, std::string_view scope,
    const layout_description& from, const layout_description& to, const plan_options& options,
    scope_state form = scope_state::pending) noexcept {
    source_check check{set};
    for (const std::uint32_t i : members)
        if (auto same = check.before(set.place(i).source); !same) return std::move(same).error();
    auto plan = run_stages(set, members, scope, from, to, options, form);
    if (!plan && plan.error().scope.empty()) plan.error().scope = text{scope};
    return plan;
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
