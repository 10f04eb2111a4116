// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: checks whether tensors also fit a second form of a field. A plan uses the first form
// that fits. If a second one fits and moves different bytes, the plan is ambiguous.
//
//   geometry, field, form  ->  the geometry in which that field has that form, or none
#ifndef SAFEFUSE_PLAN_DETAIL_OTHER_FORMS_HPP
#define SAFEFUSE_PLAN_DETAIL_OTHER_FORMS_HPP

#include <cstddef>
#include <cstdint>
#include <utility>

#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/layout/layout.hpp>
#include <safefuse/plan/detail/geometry.hpp>
#include <safefuse/plan/detail/inventory.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// Whether the first tensor of each kind has the shape of a form: the others of a field have it,
/// too.
[[nodiscard]] inline bool has_shapes(const inventory& of, std::uint32_t field,
                                     const field_form& form, const layout_args& x) noexcept {
    for (std::uint32_t t = 0; t < of.layout->tensors.size(); ++t) {
        if (!of.has(t, field)) continue;
        const mapping placed = place(of.layout->tensors[t], form, x);
        if (placed.error != mapping_error::none ||
            !placed_shape{placed}.equals(of.set.spec(of.at(t, field, 0)).shape))
            return false;
    }
    return true;
}

/// Tells the extents by another form of the parts themselves, from the first tensor of each kind:
/// the others have its shape. False if the form does not fit these.
[[nodiscard]] inline bool solve_first(const inventory& of, std::uint32_t value,
                                      const field_form& form, extent_table& extents) noexcept {
    for (bool progress = true; progress;) {
        progress = false;
        for (std::uint32_t t = 0; t < of.layout->tensors.size(); ++t)
            if (of.has(t, value) &&
                !solve_tensor(of, {t, value, 0, of.at(t, value, 0)}, form, extents, progress))
                return false;
    }
    return (extents.used & ~extents.known) == 0 && check_shares(of.groups, extents) &&
           has_shapes(of, value, form, extents.x);
}

/// Chooses the forms of all fields for extents that another form of the parts themselves tells.
///   fails   as choose_form
[[nodiscard]] inline result<void> solve_with(geometry& out, const inventory& of,
                                             std::uint32_t value, const field_form& form,
                                             bool& fits) noexcept {
    extent_table extents = of.extents;
    fits = solve_first(of, value, form, extents);
    result<void> done;
    for (std::uint32_t f = 0; fits && done && f < out.forms.size(); ++f)
        if (f != value && out.forms[f] != nullptr)
            done = choose_form(out.forms[f], of, f, extents, false);
    out.extents = extents.x;
    return done;
}

/// A geometry in which field `field` has another form than in `chosen`. `fits` becomes false if the
/// tensors do not fit that form.
///   fails   out_of_memory
[[nodiscard]] inline result<geometry> with_form(const inventory& of, const geometry& chosen,
                                                std::uint32_t field, const field_form& form,
                                                bool& fits) noexcept {
    geometry out;
    out.extents = chosen.extents;
    fits = field == of.value_field() || has_shapes(of, field, form, chosen.extents);
    if (!fits) return out;
    if (!out.forms.append(chosen.forms.data(), chosen.forms.size())) return no_memory();
    out.forms[field] = &form;
    if (field != of.value_field()) return out;
    auto solved = solve_with(out, of, field, form, fits);
    if (!solved && solved.error().code == errc::out_of_memory) return no_memory();
    fits = fits && solved;
    return out;
}

/// Writes a form for messages: 128 x 128, 1 x all.
inline void append_form(text& out, const field_form& form) noexcept {
    for (std::size_t a = 0; a < 2; ++a) {
        if (a != 0) out.append(" x ");
        const std::uint64_t size = form.block_size[a];
        size == whole_axis || size == 0 ? out.append("all") : out.append_number(size);
    }
    if (form.is_transposed) out.append(", transposed");
}

/// The failure for tensors of a field that fit two forms with different meanings.
[[nodiscard]] SAFEFUSE_COLD inline failure two_forms(const inventory& of, std::uint32_t field,
                                                     const field_form& a,
                                                     const field_form& b) noexcept {
    text detail{of.layout->fields[field].field->name};
    detail.append(" may have one entry for ");
    append_form(detail, a);
    detail.append(" or for ");
    append_form(detail, b);
    detail.append(" elements");
    std::uint32_t index = 0;
    for (const found_tensor& each : of.found)
        if (each.field == field) index = each.index;
    return fault(of.set, errc::ambiguous_form, index, detail);
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
