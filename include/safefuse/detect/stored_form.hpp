// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the stored form of a family that a tensor set has: the hub's, or one that other tools
// write. Tensors that fit two of them and would give different bytes are an error.
#ifndef SAFEFUSE_DETECT_STORED_FORM_HPP
#define SAFEFUSE_DETECT_STORED_FORM_HPP

#include <cstddef>
#include <string_view>

#include <safefuse/core/result.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/detect/detail/expert_like.hpp>
#include <safefuse/detect/detect.hpp>
#include <safefuse/layout/family.hpp>
#include <safefuse/plan/detail/stages.hpp>
#include <safefuse/plan/plan_options.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

namespace detail {

/// Whether some tensor belongs to shared experts.
inline bool has_shared_experts(const tensor_set_ref& set) noexcept {
    for (std::size_t i = 0; i < set.size(); ++i)
        for (std::string_view rest = set.spec(i).name; !rest.empty(); rest = after_segment(rest))
            if (const std::string_view segment = first_segment(rest);
                is_shared(segment) && has_word(segment, "expert") && !has_word(segment, "gate"))
                return true;
    return false;
}

/// Whether experts are stored in the source form of a family, judged only by names.
inline result<bool> has_stored(const tensor_set_ref& set,
                               const family_description& family) noexcept {
    const auto scopes = experts_scopes::find(set, family);
    if (!scopes) return scopes.error();
    bool found = false;
    for (std::size_t s = 0; !found && s < scopes->experts_count(); ++s)
        found = (*scopes)[s].form != scope_state::done;
    return found;
}

/// Whether a scope is in the source form of a family, judged only by names.
inline bool is_stored(const experts_scope& scope, const family_description& family) noexcept {
    return scope.module == 0 && (scope.form != scope_state::done || family.module_at(0).is_same());
}

/// What named_form::name is for the model's own form.
inline constexpr std::string_view model_form_name = "model";

/// A form in which the experts of a family may be.
struct named_form {
    std::string_view name;
    family_description family;
};

[[nodiscard]] SAFEFUSE_COLD inline failure two_stored_forms(const named_form& first,
                                                            const named_form& second,
                                                            std::string_view scope) noexcept {
    failure out{.code = errc::ambiguous_form, .scope = text{scope}};
    out.detail.append("of family ");
    out.detail.append(first.family.name);
    out.detail.append(": \"");
    out.detail.append(first.name);
    if (second.name == model_form_name) {
        out.detail.append(
            "\" and the model's own; if it is the model's, nothing is to be fused; "
            "otherwise choose the other by its name");
        return out;
    }
    out.detail.append("\" and \"");
    out.detail.append(second.name);
    out.detail.append("\"; choose one by its name");
    return out;
}

/// Whether a plan failed for a reason that says nothing about the form.
inline bool is_broken(const result<copy_plan>& plan) noexcept {
    return !plan &&
           (plan.error().code == errc::out_of_memory || plan.error().code == errc::file_changed);
}

/// Plans a scope as if it were in a form. A plan that fails because scales have two meanings fits.
///   fits    becomes false if the tensors do not fit
///   fails   out_of_memory, file_changed
inline result<copy_plan> plan_as(const tensor_set_ref& set, const experts_scope& scope,
                                 const family_description& form, const plan_options& options,
                                 bool& fits) noexcept {
    plan_options only = of_any_type;
    only.destination_scope = scope.destination_name;
    only.known_extents = options.known_extents;
    auto plan = plan_members(set, scope.tensors, scope.name, *form.from, *form.to, only);
    if (!plan && plan.error().code != errc::ambiguous_form) fits = false;
    return plan;
}

/// Whether some tensor can have a name of both forms: one path ends with the other, and a name
/// below it is the same.
inline bool share_names(const family_description& a, const family_description& b) noexcept {
    const std::string_view path = a.module_at(0).from_path, other = b.module_at(0).from_path;
    if (!path.ends_with(other) && !other.ends_with(path)) return false;
    for (const tensor_description& one : a.from->tensors)
        for (const tensor_description& two : b.from->tensors)
            if (one.name == two.name) return true;
    return false;
}

/// Plans every scope that has the names of two forms as each of them. Returns whether the second
/// one fits all these scopes, and the first one does not.
///   fails   ambiguous_form (both fit, and make different bytes), out_of_memory, file_changed
inline result<bool> second_fits_better(const tensor_set_ref& set, const named_form& first,
                                       const named_form& second,
                                       const plan_options& options) noexcept {
    if (!share_names(first.family, second.family)) return false;
    const auto scopes = experts_scopes::find(set, first.family),
               others = experts_scopes::find(set, second.family);
    if (!scopes || !others) return scopes ? others.error() : scopes.error();
    bool first_fits = true, second_fits = true;
    std::string_view differs;
    for (std::size_t i = 0; i < scopes->size(); ++i)
        for (std::size_t j = 0; j < others->size(); ++j) {
            const experts_scope scope = (*scopes)[i], other = (*others)[j];
            if (scope.name != other.name || !is_stored(scope, first.family) ||
                !is_stored(other, second.family))
                continue;
            const auto one = plan_as(set, scope, first.family, options, first_fits),
                       two = plan_as(set, other, second.family, options, second_fits);
            if (is_broken(one) || is_broken(two)) return is_broken(one) ? one.error() : two.error();
            const bool same =
                one && two && (same_work(*one, *two) || one->size_bytes() + two->size_bytes() == 0);
            if (!same) differs = scope.name;
        }
    if (first_fits && second_fits && !differs.empty())
        return two_stored_forms(first, second, differs);
    return second_fits && !first_fits;
}

}  // namespace detail

/// The family with the stored form that a tensor set has: the hub's, or one that other tools write.
/// If it has none of them, the hub's. If the names of some experts fit two forms, the shapes and
/// `options.known_extents` decide. The form of the model counts, too.
///   family    as declared, not read in direction::inverse
///   options   only known_extents are used
///   fails     ambiguous_form (the tensors fit two forms that make different bytes: choose one with
///             with_named_form), out_of_memory, file_changed
[[nodiscard]] inline result<family_description> with_stored_form_of(
    tensor_set_ref set, const family_description& family,
    const plan_options& options = {}) noexcept {
    detail::named_form best{"hub", family}, model{detail::model_form_name, family};
    model.family.from = family.to;
    model.family.from_module = family.to_module;
    bool any = false;
    for (std::size_t i = 0; i <= family.forms.size(); ++i) {
        detail::named_form form{"hub", family};
        if (i != 0) {
            const stored_form_description& other = family.forms[i - 1];
            if (other.excludes_shared_experts && detail::has_shared_experts(set)) continue;
            form = {other.name, with_stored_form(family, other)};
        }
        const auto stored = detail::has_stored(set, form.family);
        if (!stored) return stored.error();
        if (!*stored) continue;
        if (const auto done = detail::second_fits_better(set, form, model, options); !done)
            return done.error();
        if (any) {
            const auto better = detail::second_fits_better(set, best, form, options);
            if (!better) return better.error();
            if (!*better) continue;
        }
        best = form;
        any = true;
    }
    return best.family;
}

/// The family with the stored form of that name: "hub", or one of `forms`. Where none of these is
/// called "per-expert" and the hub stores experts one by one, the hub's form is that one.
///   fails    unknown_family (it has no such form; the detail lists those that it has)
[[nodiscard]] inline result<family_description> with_named_form(const family_description& family,
                                                                std::string_view name) noexcept {
    if (name == "hub") return family;
    failure none{.code = errc::unknown_family};
    none.detail.append("family ");
    none.detail.append(family.name);
    none.detail.append(" has no stored form \"");
    none.detail.append(name);
    none.detail.append("\": known are hub");
    for (std::size_t i = 0; i < family.forms.size(); ++i) {
        if (family.forms[i].name == name) {
            const family_description made = with_stored_form(family, family.forms[i]);
            // whoever writes experts under the model's names writes all else so, too
            const module_description of_form = made.module_at(0), of_hub = family.module_at(0);
            if (of_form.from_path == of_form.to_path && of_hub.from_path != of_hub.to_path)
                return experts_only(made);
            return made;
        }
        none.detail.append(", ");
        none.detail.append(family.forms[i].name);
    }
    if (name == "per-expert" && detail::is_per_expert(*family.from)) return family;
    return none;
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
