// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: finds the experts of a family in a tensor set, and all tensors of the model that the
// set becomes. Engines loop over these. If the family fits no experts, the failure names the
// families that do.
#ifndef SAFEFUSE_DETECT_FIND_MODEL_HPP
#define SAFEFUSE_DETECT_FIND_MODEL_HPP

#include <cstddef>
#include <string_view>
#include <utility>

#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/detect/detail/checked_scopes.hpp>
#include <safefuse/detect/detect.hpp>
#include <safefuse/layout/engine.hpp>
#include <safefuse/layout/family.hpp>
#include <safefuse/models/registry.hpp>
#include <safefuse/plan/detail/model_access.hpp>
#include <safefuse/plan/model_tensors.hpp>
#include <safefuse/plan/plan_options.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

namespace detail {

/// The failure for a family that fits no experts of a set. It says how the family names experts,
/// and which families fit the names of the set in the same direction.
[[nodiscard]] SAFEFUSE_COLD inline failure no_scopes(
    const tensor_set_ref& set, const family_description& family,
    span<const family_description> families) noexcept {
    constexpr std::size_t most = 8;
    failure out{.code = errc::no_experts};
    name_stored_form(family, out);
    const auto chosen = one_of_each_kind(set, longest_number(families));
    if (!chosen) return chosen.error();
    const tensor_set_ref kinds{*chosen};
    std::size_t count = 0;
    for (const family_description& each : families) {
        const auto score = score_family(set, kinds, each.in(family.way()));
        if (!score) return score.error();
        if (*score == 0) continue;
        if (count < most) {
            out.detail.append(count == 0 ? "; the names fit " : ", ");
            out.detail.append(each.name);
        }
        ++count;
    }
    if (count > most) {
        out.detail.append(" and ");
        out.detail.append_count(count - most);
        out.detail.append(" more");
    }
    if (count == 0) out.detail.append("; no known family fits the names");
    return out;
}

/// The scopes of a family. Fails if there are no experts, unless the options allow that.
[[nodiscard]] inline result<experts_scopes> find_scopes(
    const tensor_set_ref& set, const family_description& family, const plan_options& options,
    span<const family_description> families) noexcept {
    auto scopes = experts_scopes::find(set, family);
    if (!scopes) return scopes;
    if (scopes->experts_count() == 0 && scopes->passed_count() == 0 && !options.allow_no_experts)
        return no_scopes(set, family, families);
    return checked_scopes(set, family, std::move(scopes), options);
}

[[nodiscard]] inline result<model_tensors> find_model(
    const tensor_set_ref& set, const family_description& family, const engine_entry* engine,
    const plan_options& options, span<const family_description> families) noexcept {
    auto scopes = find_scopes(set, family, options, families);
    if (!scopes) return std::move(scopes).error();
    return model_access::make(set, family, engine, options, std::move(*scopes));
}

}  // namespace detail

/// Finds the experts modules of a family in a tensor set, and the other modules that the family
/// stores differently from the model. A loop over layers iterates over them.
///   Families   the families that a failure looks through
///   way       the direction of the plans to make of the scopes
///   options   only keep_unknown and allow_no_experts are used
///   fails   no_experts (unless options.allow_no_experts; the detail says how the family names
///           experts, and which families fit), unknown_experts (unless options.keep_unknown),
///           file_changed, out_of_memory
template <class Families = shipped_families>
[[nodiscard]] result<experts_scopes> find_scopes(tensor_set_ref set,
                                                 const family_description& family,
                                                 direction way = direction::forward,
                                                 const plan_options& options = {}) noexcept {
    return detail::find_scopes(set, family.in(way), options, Families::all);
}

/// Finds every tensor of the model that a tensor set becomes: the outputs of all scopes, and all
/// other tensors under their new names.
///   Families   the families that a failure looks through
///   way       direction::inverse to unfuse
///   options   apply to each scope; destination_scope is ignored
///   fails   as find_scopes; duplicate_tensor (two tensors get the same name), size_mismatch (the
///           set reports a size that does not fit the dtype and shape), size_overflow (the sum of
///           all tensors), shape_mismatch (the shapes claim more than a million additional
///           tensors), and as `plan` of a scope
template <class Families = shipped_families>
[[nodiscard]] result<model_tensors> find_model(tensor_set_ref set, const family_description& family,
                                               direction way = direction::forward,
                                               const plan_options& options = {}) noexcept {
    return detail::find_model(set, family.in(way), nullptr, options, Families::all);
}
/// Overload for an engine: experts get its layout and names, all other tensors keep the form of the
/// hub. The set may be in either form.
///   fails   as above, and as `plan` for an engine
template <class Families = shipped_families>
[[nodiscard]] result<model_tensors> find_model(tensor_set_ref set, const family_description& family,
                                               const engine_entry& engine,
                                               const plan_options& options = {}) noexcept {
    return detail::find_model(set, family.inverse(), &engine, options, Families::all);
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
