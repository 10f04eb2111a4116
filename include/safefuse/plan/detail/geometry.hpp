// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the second stage of a plan: the shapes of an inventory give every extent its value and
// every field its form.
//
//     inventory -> geometry
//
// Each axis of a stored tensor is one equation over the extents, with a single product:
//
//     stored extent * block_size = coefficient * product of extents    (gate_up_proj axis 1: 2 * I)
//
// An equation with one unknown extent gives its value. solve_extents repeats this until no equation
// gives anything new. Then every tensor must have the shape and the dtype that follow from the
// extents.
#ifndef SAFEFUSE_PLAN_DETAIL_GEOMETRY_HPP
#define SAFEFUSE_PLAN_DETAIL_GEOMETRY_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/layout/layout.hpp>
#include <safefuse/plan/detail/inventory.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// The information that follows from the shapes of an inventory.
struct geometry {
    /// Values of all extents that parts mention.
    layout_args extents;
    /// By field of the source's layout. Null: not stored.
    vector<const field_form*> forms;
};

/// The axes of a mapping that appear in a shape.
struct placed_shape {
    std::uint64_t extents[max_stored_axes]{};
    std::size_t rank = 0;

    SAFEFUSE_NOINLINE explicit placed_shape(const mapping& placed) noexcept {
        for (std::size_t a = 0; a < placed.axis_count; ++a)
            if (placed.axes[a].present) extents[rank++] = placed.axes[a].extent;
    }
    [[nodiscard]] span<const std::uint64_t> view() const noexcept { return {extents, rank}; }
    [[nodiscard]] bool equals(shape_view shape) const noexcept { return same_shape(shape, view()); }
};

/// The mapping of a tensor for given extents and one form of a field.
[[nodiscard]] SAFEFUSE_NOINLINE inline mapping place(const tensor_description& tensor,
                                                     const field_form& form,
                                                     const layout_args& extents) noexcept {
    layout_args of_field = extents;
    of_field.field = &form;
    return tensor.place(of_field);
}

// ------------------------------------------------------------------------------------- failures

/// The failure for a mapping error.
[[nodiscard]] SAFEFUSE_COLD inline failure misplaced(mapping_error why,
                                                     const text& tensor) noexcept {
    failure error{.code = errc::splits_block, .tensor = tensor};
    switch (why) {
    case mapping_error::none:
    case mapping_error::splits_block: break;
    case mapping_error::unequal_extents:
        error.code = errc::shape_mismatch,
        error.detail = "concatenated parts have different shapes";
        break;
    case mapping_error::uneven_groups: error.code = errc::unnested_groups; break;
    case mapping_error::too_complex:
        error.code = errc::unnested_groups;
        error.detail = "the layout needs more strides than a plan supports";
        break;
    case mapping_error::overflow: error.code = errc::size_overflow; break;
    }
    return error;
}

[[nodiscard]] SAFEFUSE_COLD inline failure wrong_rank(const inventory& of, std::uint32_t index,
                                                      const mapping& placed) noexcept {
    failure error = fault(of.set, errc::shape_mismatch, index, "wrong number of axes");
    error.expected = placed_shape{placed}.rank;
    error.actual = of.set.spec(index).shape.size();
    return error;
}

SAFEFUSE_COLD inline void append_shape(text& out, dtype type,
                                       span<const std::uint64_t> shape) noexcept {
    out.append(name(type));
    out.append(" [");
    for (std::size_t a = 0; a < shape.size(); ++a) {
        if (a != 0) out.append(", ");
        out.append_number(shape[a]);
    }
    out.append("]");
}

// -------------------------------------------------------------------------------------- extents

/// One equation over the extents: extent * block_size = coefficient * product of dims.
struct axis_equation {
    std::uint64_t extent;     ///< of the stored tensor
    const stored_axis& axis;  ///< the layout's axis
};

/// The result of solving an equation.
struct solution {
    enum class outcome : std::uint8_t { nothing, extent, no_whole_number, overflow };
    outcome what = outcome::nothing;
    std::uint64_t divisor = 0;  ///< the unknown extent is elements / divisor
    std::uint64_t elements = 0;
};

/// Solves an equation for its unknown extent, if there is exactly one.
///   @post   outcome::extent: the equation holds, and one more extent is known
[[nodiscard]] inline solution solve(const axis_equation& of, extent_table& extents) noexcept {
    const unsigned unknown = of.axis.dims & ~extents.known;
    const bool has_one_unknown = unknown != 0 && (unknown & (unknown - 1)) == 0;
    if (of.axis.coefficient == 0 || !has_one_unknown) return {};
    solution out{solution::outcome::overflow, of.axis.coefficient, 0};
    for (std::size_t s = 0; s < extents.x.dim_count; ++s)
        if ((of.axis.dims & extents.known & (1u << s)) != 0 &&
            !checked_mul(out.divisor, extents.x.values[s], out.divisor))
            return out;
    if (!checked_mul(of.extent, of.axis.block_size, out.elements)) return out;
    // the equation gives no value; another tensor may
    if (out.divisor == 0 && out.elements == 0) return {};
    out.what = solution::outcome::no_whole_number;
    if (out.divisor == 0 || out.elements % out.divisor != 0) return out;
    for (std::size_t s = 0; s < extents.x.dim_count; ++s)
        if ((unknown & (1u << s)) != 0) extents.x.values[s] = out.elements / out.divisor;
    extents.known |= unknown;
    out.what = solution::outcome::extent;
    return out;
}

[[nodiscard]] SAFEFUSE_COLD inline failure unsolved(const inventory& of, std::uint32_t index,
                                                    const solution& why) noexcept {
    if (why.what == solution::outcome::overflow) return fault(of.set, errc::size_overflow, index);
    failure error = fault(of.set, errc::shape_mismatch, index,
                          "an extent is not a multiple of the size that the layout requires");
    error.expected = why.divisor;
    error.actual = why.elements;
    return error;
}

/// Solves the equations of all axes of one tensor, outermost first. Sets `progress` if one of them
/// gave an extent.
///   fails   shape_mismatch, size_overflow
[[nodiscard]] inline result<void> solve_tensor(const inventory& of, const found_tensor& tensor,
                                               const field_form& form, extent_table& extents,
                                               bool& progress) noexcept {
    layout_args unset = extents.x;
    for (std::uint64_t& value : unset.values) value = 0;
    const mapping placed = place(of.layout->tensors[tensor.tensor], form, unset);
    const shape_view shape = of.set.spec(tensor.index).shape;
    std::size_t shown = 0;
    for (std::size_t a = 0; a < placed.axis_count; ++a) {
        if (!placed.axes[a].present) continue;
        if (shown == shape.size()) return wrong_rank(of, tensor.index, placed);
        const solution made = solve({shape[shown++], placed.axes[a]}, extents);
        if (made.what == solution::outcome::no_whole_number ||
            made.what == solution::outcome::overflow)
            return unsolved(of, tensor.index, made);
        progress = progress || made.what == solution::outcome::extent;
    }
    if (shown != shape.size()) return wrong_rank(of, tensor.index, placed);
    return {};
}

/// Checks groups that share one numbered list of experts: each must have the number of experts that
/// divide_experts gives it.
///   fails   shape_mismatch, size_overflow
[[nodiscard]] inline result<void> check_shares(const expert_groups& groups,
                                               const extent_table& extents) noexcept {
    for (std::uint8_t s = 0; s < extents.x.dim_count; ++s) {
        const bool begins_chain = groups.before(s) == no_dim && groups.after(s) != no_dim;
        if (!extents.is_used(s) || !begins_chain) continue;
        std::uint64_t count = 0;
        for (std::uint8_t each = s; each != no_dim; each = groups.after(each))
            if (!checked_add(count, extents.x.values[each], count))
                return refuse(errc::size_overflow, {});
        layout_args shares = extents.x;
        divide_experts(shares, groups, s, count);
        for (std::size_t each = 0; each < shares.dim_count; ++each)
            if (shares.values[each] != extents.x.values[each])
                return refuse(errc::shape_mismatch, {},
                              "groups of experts that share their numbers are of unequal size",
                              shares.values[each], extents.x.values[each]);
    }
    return {};
}

/// Finds E, I, H, ... from the shapes of the tensors of the value field. After a failure, `extents`
/// has what could be solved.
///   fails   shape_mismatch, size_overflow
[[nodiscard]] inline result<void> solve_extents(const inventory& of, std::uint32_t field,
                                                const field_form& form,
                                                extent_table& extents) noexcept {
    for (bool progress = true; progress;) {
        progress = false;
        for (const found_tensor& each : of.found) {
            if (each.field != field || each.expert != 0) continue;
            if (auto solved = solve_tensor(of, each, form, extents, progress); !solved)
                return solved;
        }
    }
    if ((extents.used & ~extents.known) != 0)
        return refuse(errc::shape_mismatch, {}, "the shapes do not tell all extents of the layout");
    return check_shares(of.groups, extents);
}

// --------------------------------------------------------------------------------------- shapes

/// Number of tensors in the set for a tensor of the source's layout: one per expert, or one.
[[nodiscard]] inline std::uint64_t tensors_in(const inventory& of, const layout_args& x,
                                              std::uint32_t tensor) noexcept {
    if (!of.layout->tensors[tensor].per_expert()) return 1;
    return x.values[of.groups.of_tensor[tensor].count];
}

/// Checks that the size of a tensor fits its dtype and shape, and that it ends within 64 bits.
///   fails   size_mismatch
[[nodiscard]] inline result<void> check_size(const tensor_set_ref& set, std::uint32_t index,
                                             const tensor_spec& spec) noexcept {
    const std::uint64_t held = set.place(index).size_bytes;
    std::uint64_t size_bytes = 0, end = 0;
    if (tensor_size(spec.type, spec.shape, size_bytes) == size_verdict::fits &&
        size_bytes == held && checked_add(set.place(index).offset, held, end))
        return {};
    failure error = fault(set, errc::size_mismatch, index);
    error.expected = size_bytes;
    error.actual = held;
    return error;
}

/// The failure for a tensor with a wrong shape or dtype.
[[nodiscard]] SAFEFUSE_COLD inline failure misfit(const tensor_set_ref& set, std::uint32_t index,
                                                  dtype type,
                                                  const placed_shape& expected) noexcept {
    const tensor_spec spec = set.spec(index);
    text detail{"expected "};
    append_shape(detail, type, expected.view());
    detail.append(", found ");
    append_shape(detail, spec.type, spec.shape);
    const bool same_shape = expected.equals(spec.shape);
    return fault(set, same_shape ? errc::dtype_mismatch : errc::shape_mismatch, index, detail);
}

/// Checks that all tensors of one field have the shape `expected` and the same dtype.
///   fails   shape_mismatch, dtype_mismatch, size_mismatch
[[nodiscard]] inline result<void> check_shapes(const inventory& of, const layout_args& x,
                                               std::uint32_t t, std::uint32_t f,
                                               const placed_shape& expected) noexcept {
    const dtype type = of.set.spec(of.at(t, f, 0)).type;
    const std::uint64_t count = tensors_in(of, x, t);
    for (std::uint64_t e = 0; e < count; ++e) {
        const std::uint32_t index = of.at(t, f, e);
        const tensor_spec spec = of.set.spec(index);
        if (expected.equals(spec.shape) && spec.type == type) {
            if (auto size = check_size(of.set, index, spec); !size) return size;
            continue;
        }
        failure error = misfit(of.set, index, type, expected);
        if (of.layout->tensors[t].per_expert())
            error.expert = of.groups.first_number(of.groups.of_tensor[t], x) + e;
        return error;
    }
    return {};
}

/// Checks that all tensors of a field have the shape that a form and the extents ask for, and one
/// dtype per tensor of the layout.
///   fails   shape_mismatch, dtype_mismatch, size_mismatch, splits_block, unnested_groups,
///           size_overflow
[[nodiscard]] inline result<void> check_field(const inventory& of, std::uint32_t field,
                                              const field_form& form,
                                              const layout_args& x) noexcept {
    for (std::uint32_t t = 0; t < of.layout->tensors.size(); ++t) {
        if (!of.has(t, field)) continue;
        const mapping placed = place(of.layout->tensors[t], form, x);
        if (placed.error != mapping_error::none)
            return misplaced(placed.error, first_name(of, x, t, field));
        if (auto same = check_shapes(of, x, t, field, placed_shape{placed}); !same) return same;
    }
    return {};
}

// ---------------------------------------------------------------------------------------- forms

/// A trial of a form: the extents that follow from it, and whether all tensors fit.
struct form_trial {
    extent_table extents;
    result<void> fits;
};

/// Tries a form. The value field gives the extents; all other fields use them.
[[nodiscard]] SAFEFUSE_NOINLINE inline form_trial try_form(const inventory& of, std::uint32_t field,
                                                           const field_form& form,
                                                           const extent_table& known,
                                                           bool tells_extents) noexcept {
    form_trial out{known, {}};
    if (tells_extents) out.fits = solve_extents(of, field, form, out.extents);
    if (out.fits) out.fits = check_field(of, field, form, out.extents.x);
    return out;
}

/// Number of tensors of a field with the shape that a form and the extents ask for.
[[nodiscard]] inline std::uint64_t count_fitting(const inventory& of, std::uint32_t field,
                                                 const field_form& form,
                                                 const layout_args& x) noexcept {
    std::uint64_t count = 0;
    for (const found_tensor& each : of.found) {
        if (each.field != field) continue;
        const mapping placed = place(of.layout->tensors[each.tensor], form, x);
        if (placed.error == mapping_error::none &&
            placed_shape{placed}.equals(of.set.spec(each.index).shape))
            ++count;
    }
    return count;
}

[[nodiscard]] constexpr bool is_integer(dtype type) noexcept {
    return type == dtype::u8 || type == dtype::i8 || type == dtype::u16 || type == dtype::i16 ||
           type == dtype::u32 || type == dtype::i32 || type == dtype::u64 || type == dtype::i64;
}
[[nodiscard]] SAFEFUSE_NOINLINE inline bool has_integers(const inventory& of,
                                                         std::uint32_t field) noexcept {
    for (const found_tensor& each : of.found)
        if (each.field == field && !is_integer(of.set.spec(each.index).type)) return false;
    return true;
}
/// Whether one entry of a form contains several codes. Only integers can.
[[nodiscard]] constexpr bool is_packed(const field_form& form) noexcept {
    bool packed = false;
    for (const std::uint64_t block_size : form.block_size) packed = packed || block_size > 1;
    return packed && form.role == field_role::value;
}

/// Chooses the form of a field: the first that all its tensors fit. If none fits, the failure is
/// that of the form that most tensors fit, so it names the odd tensor.
///   fails   dtype_mismatch (no form has that dtype), and as try_form
[[nodiscard]] SAFEFUSE_NOINLINE inline result<void> choose_form(const field_form*& chosen,
                                                                const inventory& of,
                                                                std::uint32_t field,
                                                                extent_table& extents,
                                                                bool tells_extents) noexcept {
    const span<const field_form> forms = of.layout->fields[field].field->forms;
    const auto may_be = [&](const field_form& form) noexcept {
        return !is_packed(form) || has_integers(of, field);
    };
    result<void> misfit;
    for (const field_form& form : forms) {
        if (!may_be(form)) continue;
        form_trial trial = try_form(of, field, form, extents, tells_extents);
        if (trial.fits) {
            extents = trial.extents;
            chosen = &form;
            return {};
        }
        if (misfit) misfit = std::move(trial.fits);
    }
    if (misfit) return refuse(errc::dtype_mismatch, {}, of.layout->fields[field].field->name);
    std::uint64_t most = 0;
    for (const field_form& form : forms) {
        if (!may_be(form)) continue;
        form_trial trial = try_form(of, field, form, extents, tells_extents);
        const std::uint64_t count = count_fitting(of, field, form, trial.extents.x);
        if (count <= most) continue;
        misfit = std::move(trial.fits);
        most = count;
    }
    return misfit;
}

/// Whether the elements have a meaning without scales. Integers in a weight are quantised codes.
[[nodiscard]] constexpr bool is_number(dtype type) noexcept {
    return type == dtype::f64 || type == dtype::f32 || type == dtype::f16 || type == dtype::bf16 ||
           type == dtype::c64 || type == dtype::boolean;
}

/// Checks that codes have their scales.
///   fails   missing_scales
[[nodiscard]] inline result<void> check_scales(const inventory& of) noexcept {
    const span<const field_suffix> fields = of.layout->fields;
    for (std::uint32_t t = 0; t < of.layout->tensors.size(); ++t) {
        bool has_scale = false;
        for (std::uint32_t f = 0; f < fields.size(); ++f)
            has_scale = has_scale || (of.has(t, f) && fields[f].field->role == field_role::scale);
        for (std::uint32_t f = 0; !has_scale && f < fields.size(); ++f) {
            if (!of.has(t, f) || fields[f].field->role != field_role::value) continue;
            const std::uint32_t index = of.at(t, f, 0);
            const dtype type = of.set.spec(index).type;
            if (!is_number(type)) return fault(of.set, errc::missing_scales, index, name(type));
        }
    }
    return {};
}

/// Finds the extents of all parts, and the form of each field of the source. The value field comes
/// first, because its shapes give the extents.
///   fails   shape_mismatch, dtype_mismatch, size_mismatch, splits_block, unnested_groups,
///           size_overflow, missing_scales, out_of_memory
///   @post   every tensor of the inventory has the shape of its mapping
[[nodiscard]] inline result<geometry> solve_geometry(const inventory& of,
                                                     bool allow_unscaled) noexcept {
    geometry out;
    extent_table extents = of.extents;
    if (!out.forms.resize(of.layout->fields.size(), nullptr)) return no_memory();
    const std::uint32_t value = of.value_field();
    auto done = choose_form(out.forms[value], of, value, extents, true);
    for (std::uint32_t f = 0; done && f < of.layout->fields.size(); ++f) {
        bool any = false;
        for (std::uint32_t t = 0; t < of.layout->tensors.size(); ++t) any = any || of.has(t, f);
        if (any && f != value) done = choose_form(out.forms[f], of, f, extents, false);
    }
    if (done && !allow_unscaled) done = check_scales(of);
    if (!done) return std::move(done).error();
    out.extents = extents.x;
    return out;
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
