// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: finds, by name, the experts modules of a tensor set and the other modules that its
// family stores differently from the model.
#ifndef SAFEFUSE_PLAN_SCOPES_HPP
#define SAFEFUSE_PLAN_SCOPES_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <safefuse/core/detail/name_table.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/index_iterator.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/layout/detail/layout_names.hpp>
#include <safefuse/layout/family.hpp>
#include <safefuse/plan/detail/kept_plan.hpp>
#include <safefuse/plan/plan.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// One experts module of a tensor set, or another module that its family stores differently.
struct experts_scope {
    /// Its prefix in the set.
    std::string_view name;
    /// Its prefix after the family's renames.
    std::string_view destination_name;
    /// What is stored there.
    scope_state form;
    /// Tensors under it that look like its layouts' tensors, as indices in the set.
    span<const std::uint32_t> tensors;
    /// Which of the family's modules it is. 0: experts.
    std::uint32_t module = 0;
};

/// The modules of a tensor set that fit one family: first those with experts, then the others, each
/// kind in the order of the set.
///   lifetime  the tensor set must outlive it; it may be moved, as with copy_plan
class experts_scopes {
public:
    /// Reads every name of the set once for each kind of module. If both forms of a family have the
    /// same names, the scope is reported in the form `from`, and the plan decides by the shapes. If
    /// nothing fits, the list is empty; find_scopes reports that as a failure and says which
    /// families fit.
    ///   way     the direction of the plans to make of the scopes
    ///   fails   out_of_memory
    static result<experts_scopes> find(tensor_set_ref set, const family_description& family,
                                       direction way = direction::forward) noexcept {
        return way == direction::forward ? find_read(set, family) : find_read(set, family.in(way));
    }

    /// Number of scopes.
    [[nodiscard]] std::size_t size() const noexcept { return scopes_.size(); }
    /// Scope i.
    ///   lifetime  valid as long as the list
    [[nodiscard]] experts_scope operator[](std::size_t i) const noexcept SAFEFUSE_LIFETIMEBOUND {
        const record& each = scopes_[i];
        return {
            each.name,
            detail::characters_at(names_.data() + each.destination_first, each.destination_size),
            each.form,
            {members_.data() + each.member_first, each.member_count},
            each.module};
    }
    /// @{
    /// For range-based loops over all scopes.
    [[nodiscard]] index_iterator<experts_scopes> begin() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return {*this, 0};
    }
    [[nodiscard]] index_iterator<experts_scopes> end() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return {*this, size()};
    }
    /// @}
    /// The number of experts modules in a form that the family passes through. They are not among
    /// the scopes.
    [[nodiscard]] std::size_t passed_count() const noexcept { return passed_count_; }
    /// The tensors of the modules that are passed through, as indices in the set.
    ///   lifetime  valid as long as the list
    [[nodiscard]] span<const std::uint32_t> passed_tensors() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return passed_.view();
    }
    /// Number of scopes that are experts modules. They come first.
    [[nodiscard]] std::size_t experts_count() const noexcept {
        std::size_t count = 0;
        while (count < scopes_.size() && scopes_[count].module == 0) ++count;
        return count;
    }

private:
    struct record {
        std::string_view name;
        std::size_t destination_first = 0;
        std::size_t destination_size = 0;
        std::uint32_t member_first = 0;
        std::uint32_t member_count = 0;
        std::uint32_t module = 0;
        bool has_from = false;
        bool has_to = false;
        bool is_passed = false;
        scope_state form{};
    };
    static constexpr std::uint32_t none = ~std::uint32_t{0};

    /// State of a search.
    struct search {
        /// Everything that looks like a scope.
        vector<record> seen;
        /// By tensor of the set: index in `seen`, or none.
        vector<std::uint32_t> scope_of;
        /// The scopes of one module, by name.
        detail::name_table table;
    };
    static result<experts_scopes> find_read(tensor_set_ref set,
                                            const family_description& family) noexcept;
    static result<void> assign(search& of, const tensor_set_ref& set,
                               const family_description& family, std::uint32_t m) noexcept;
    result<void> classify(search& of, std::size_t first, const family_description& family,
                          const module_description& module) noexcept;
    result<void> collect(search& of) noexcept;

    vector<record> scopes_;
    vector<std::uint32_t> members_;
    vector<char> names_;  // names of the destination scopes
    vector<std::uint32_t> passed_;
    std::size_t passed_count_ = 0;
};

namespace detail {

/// A tensor's name as seen by a family.
struct scoped_name {
    std::size_t scope_size = 0;  ///< characters of the scope; 0: no experts
    name_verdict verdict = name_verdict::other;
    scope_state form = scope_state::pending;
};

/// Where a module's path, which may contain {i}, is in a name as whole segments.
SAFEFUSE_NOINLINE constexpr found_pattern find_module(std::string_view name,
                                                      std::string_view module) noexcept {
    found_pattern found;
    if (find_number(module) == std::string_view::npos) {
        found.first = find_segments(name, module);
        found.size = module.size();
        return found;
    }
    for (std::size_t i = 0; i < name.size(); ++i) {
        if (i != 0 && name[i - 1] != '.') continue;
        if (begins_with_pattern(name.substr(i), module, found)) {
            found.first = i;
            return found;
        }
    }
    found.first = std::string_view::npos;
    return found;
}

/// Finds the experts module that a name belongs to in one form of the family.
constexpr scoped_name read_scoped(std::string_view name, std::string_view module,
                                  const layout_description& layout, scope_state form) noexcept {
    // Begins like a tensor of the layout but is not one. An inner module may still fit.
    scoped_name begins;
    std::size_t before = 0;
    for (found_pattern found = find_module(name, module); found.first != std::string_view::npos;) {
        const std::size_t end = before + found.first + found.size;
        if (end < name.size()) {
            const name_verdict verdict = match(layout, name.substr(end + 1)).verdict;
            if (verdict == name_verdict::tensor) return {end, verdict, form};
            if (begins.verdict == name_verdict::other) begins = {end, verdict, form};
        }
        if (end >= name.size()) break;
        before = end + 1;
        found = find_module(name.substr(before), module);
    }
    return begins.verdict == name_verdict::other ? scoped_name{} : begins;
}

/// Finds the experts module of a name in either form. A name that fits wins over one that only
/// begins like a tensor.
SAFEFUSE_NOINLINE constexpr scoped_name read_scoped(std::string_view name,
                                                    const module_description& module) noexcept {
    const scoped_name from =
        read_scoped(name, module.from_path, *module.from, scope_state::pending);
    if (from.verdict == name_verdict::tensor) return from;
    const scoped_name to = read_scoped(name, module.to_path, *module.to, scope_state::done);
    return to.verdict == name_verdict::tensor || from.verdict == name_verdict::other ? to : from;
}

/// Whether a name fits a module of the family other than `but`. If so, it is not a leftover of
/// `but`.
constexpr bool fits_another(std::string_view name, const family_description& family,
                            std::size_t but) noexcept {
    for (std::size_t m = 0; m < family.module_count(); ++m)
        if (m != but && read_scoped(name, family.module_at(m)).verdict == name_verdict::tensor)
            return true;
    return false;
}

/// Whether every tensor of a layout contains one expert.
constexpr bool is_per_expert(const layout_description& layout) noexcept {
    bool all = true;
    for (const tensor_description& tensor : layout.tensors) all = all && tensor.per_expert();
    return all;
}

/// Whether two layouts use the same tensor names, so that only shapes tell them apart.
constexpr bool spelled_alike(const layout_description& a, const layout_description& b) noexcept {
    for (const tensor_description& tensor : a.tensors) {
        bool found = false;
        for (const tensor_description& other : b.tensors)
            found = found || tensor.name == other.name;
        if (!found) return false;
    }
    return a.tensors.size() == b.tensors.size();
}

/// The end of `scope` that matches the module's path, which may contain {i}. npos if there is no
/// match.
constexpr found_pattern find_module_at_end(std::string_view scope,
                                           std::string_view module) noexcept {
    found_pattern found;
    for (std::size_t i = 0; i < scope.size(); ++i) {
        if (i != 0 && scope[i - 1] != '.') continue;
        if (!begins_with_pattern(scope.substr(i), module, found) || i + found.size != scope.size())
            continue;
        found.first = i;
        return found;
    }
    found.first = std::string_view::npos;
    return found;
}

/// The destination's name of the scope `name`, which ends in the module's source path.
SAFEFUSE_NOINLINE inline result<text> destination_scope(const family_description& family,
                                                        const module_description& module,
                                                        std::string_view name) noexcept {
    const found_pattern found = find_module_at_end(name, module.from_path);
    auto out = renamed(family, name.substr(0, found.first));
    if (out && !append_pattern(*out, module.to_path, found)) return detail::lack_of_memory{};
    return out;
}

/// Whether `scope` ends in `module`, as whole segments.
constexpr bool ends_in_module(std::string_view scope, std::string_view module) noexcept {
    return find_module_at_end(scope, module).first != std::string_view::npos;
}

}  // namespace detail

/// First pass, for one kind of module: gives each tensor of the set its scope.
inline result<void> experts_scopes::assign(search& of, const tensor_set_ref& set,
                                           const family_description& family,
                                           std::uint32_t m) noexcept {
    constexpr detail::lack_of_memory no_memory;
    const module_description module = family.module_at(m);
    const auto names = [&](std::uint32_t i) noexcept { return of.seen[i].name; };
    // if {i} is the layer number of a module on both sides, other tensors of these layers are not
    // leftovers
    const bool is_list_of_layers =
        m != 0 && detail::is_per_expert(*module.from) && detail::is_per_expert(*module.to);
    detail::source_check check{set};
    std::uint32_t last = none;
    for (std::size_t i = 0; i < set.size(); ++i) {
        if (auto same = check.before(set.place(i).source); !same) return same;
        if (of.scope_of[i] != none) continue;
        const std::string_view name = set.spec(i).name;
        const detail::scoped_name scoped = detail::read_scoped(name, module);
        if (scoped.verdict == detail::name_verdict::other) continue;
        if (scoped.verdict == detail::name_verdict::leftover &&
            (is_list_of_layers || detail::fits_another(name, family, m)))
            continue;
        const std::string_view scope = name.substr(0, scoped.scope_size);
        if (last == none || of.seen[last].name != scope) {
            const auto number = static_cast<std::uint32_t>(of.seen.size());
            const auto inserted = of.table.insert(scope, number, names);
            if (inserted.what == detail::name_table::outcome::out_of_memory) return no_memory;
            if (inserted.what == detail::name_table::outcome::inserted &&
                !of.seen.push(record{.name = scope, .module = m}))
                return no_memory;
            last = inserted.index;
        }
        of.scope_of[i] = last;
        record& each = of.seen[last];
        ++each.member_count;
        if (scoped.verdict == detail::name_verdict::tensor)
            (scoped.form == scope_state::pending ? each.has_from : each.has_to) = true;
        for (const std::string_view passing : family.passing)
            each.is_passed = each.is_passed || (m == 0 && name.substr(scope.size() + 1) == passing);
    }
    return {};
}

/// Second pass, for the scopes of one kind of module, from `first` on: their forms and new names. A
/// renamed scope is in both forms if its new name is a scope, too.
inline result<void> experts_scopes::classify(search& of, std::size_t first,
                                             const family_description& family,
                                             const module_description& module) noexcept {
    const auto names = [&](std::uint32_t i) noexcept { return of.seen[i].name; };
    for (std::size_t s = first; s < of.seen.size(); ++s) {
        record& each = of.seen[s];
        each.form = each.has_from ? (each.has_to ? scope_state::mixed : scope_state::pending)
                                  : scope_state::done;
        std::string_view destination = each.name;
        text changed;
        if (each.has_from && detail::ends_in_module(each.name, module.from_path)) {
            auto made = detail::destination_scope(family, module, each.name);
            if (!made) return std::move(made).error();
            changed = std::move(*made);
            destination = changed;
            const std::uint32_t other =
                destination == each.name ? none : of.table.find(destination, names);
            if (other != none && of.seen[other].has_to) each.form = scope_state::mixed;
        } else if (each.form == scope_state::done) {
            auto made = renamed_always(family.renames, each.name);
            if (!made) return std::move(made).error();
            changed = std::move(*made);
            destination = changed;
        }
        if (module.is_same()) each.form = scope_state::done;
        each.destination_first = names_.size();
        each.destination_size = destination.size();
        if (!names_.append(destination.data(), destination.size())) return detail::lack_of_memory{};
    }
    return {};
}

/// Third pass: the members of each scope, in the order of the set. Drops scopes in which nothing
/// fits.
inline result<void> experts_scopes::collect(search& of) noexcept {
    constexpr detail::lack_of_memory no_memory;
    vector<std::uint32_t> kept_as;
    std::uint32_t members = 0;
    for (record& each : of.seen) {
        const bool kept = (each.has_from || each.has_to) && !each.is_passed;
        passed_count_ += each.is_passed ? 1u : 0u;
        if (!kept_as.push(kept ? static_cast<std::uint32_t>(scopes_.size()) : none))
            return no_memory;
        each.member_first = members;
        if (!kept) continue;
        members += each.member_count;
        if (!scopes_.push(each)) return no_memory;
        scopes_.back().member_count = 0;
    }
    if (!members_.resize_unset(members)) return no_memory;
    for (std::size_t i = 0; i < of.scope_of.size(); ++i) {
        if (of.scope_of[i] == none) continue;
        if (of.seen[of.scope_of[i]].is_passed && !passed_.push(static_cast<std::uint32_t>(i)))
            return no_memory;
        if (kept_as[of.scope_of[i]] == none) continue;
        record& each = scopes_[kept_as[of.scope_of[i]]];
        members_[each.member_first + each.member_count++] = static_cast<std::uint32_t>(i);
    }
    return {};
}

inline result<experts_scopes> experts_scopes::find_read(tensor_set_ref set,
                                                        const family_description& family) noexcept {
    experts_scopes out;
    search of;
    if (!of.scope_of.resize(set.size(), none)) return detail::lack_of_memory{};
    for (std::uint32_t m = 0; m < family.module_count(); ++m) {
        const std::size_t first = of.seen.size();
        of.table = detail::name_table{};
        if (!of.table.reserve(16)) return detail::lack_of_memory{};
        if (auto done = assign(of, set, family, m); !done) return std::move(done).error();
        if (auto done = out.classify(of, first, family, family.module_at(m)); !done)
            return std::move(done).error();
    }
    if (auto done = out.collect(of); !done) return std::move(done).error();
    return out;
}

namespace detail {

/// Plans a scope that experts_scopes::find found for the same set and family.
///   fails   both_layouts, and as `plan<From, To>`
[[nodiscard]] inline result<copy_plan> plan_found(tensor_set_ref set,
                                                  const family_description& family,
                                                  const experts_scope& scope,
                                                  plan_options options) noexcept {
    if (scope.form == scope_state::mixed)
        return failure{.code = errc::both_layouts, .scope = text{scope.name}};
    if (options.destination_scope.empty()) options.destination_scope = scope.destination_name;
    const module_description module = family.module_at(scope.module);
    const layout_description& from = scope.form == scope_state::pending ? *module.from : *module.to;
    auto plan = plan_members(set, scope.tensors, scope.name, from, *module.to, options, scope.form);
    if (!plan && scope.form == scope_state::done)
        return keep_members(set, scope.tensors, scope.name, *module.to, options, scope.module == 0,
                            std::move(plan).error());
    if (plan || plan.error().code != errc::shape_mismatch || scope.form == scope_state::done ||
        !spelled_alike(*module.from, *module.to))
        return plan;
    // Both forms have the same names: tensors that do not fit one form may fit the other. If they
    // fit both, they are stored as the family says; with_stored_form_of makes that a failure.
    auto other = plan_members(set, scope.tensors, scope.name, *module.to, *module.to, options,
                              scope_state::done);
    return other ? std::move(other) : std::move(plan);
}

}  // namespace detail

/// Plans the experts of one scope of a family. A scope that already has the destination's form is
/// planned unchanged, and whole if it has fields that the layout cannot split (kept_for()). `scope`
/// must come from experts_scopes::find with the same set, and with the family in the same
/// direction.
///   fails   both_layouts, and as `plan<From, To>`
template <tensor_set Set>
[[nodiscard]] result<copy_plan> plan(const Set& set SAFEFUSE_LIFETIMEBOUND,
                                     const experts_scope& scope, const family_description& family,
                                     direction way, const plan_options& options = {}) noexcept {
    if (way == direction::forward) return detail::plan_found(set, family, scope, options);
    return detail::plan_found(set, family.in(way), scope, options);
}
template <detail::owning_tensor_set Set>
result<copy_plan> plan(const Set&&, const experts_scope&, const family_description&, direction,
                       const plan_options& = {}) = delete;

namespace detail {

/// Number of tensors under a scope of `scope_size` characters that belong to a layout.
SAFEFUSE_NOINLINE inline std::size_t count_fitting(const tensor_set_ref& set,
                                                   span<const std::uint32_t> members,
                                                   std::size_t scope_size,
                                                   const layout_description& layout) noexcept {
    std::size_t matches = 0;
    for (const std::uint32_t i : members)
        matches +=
            match(layout, set.spec(i).name.substr(scope_size + 1)).verdict == name_verdict::tensor
                ? 1u
                : 0u;
    return matches;
}

/// Adds the names that a family gives its experts to a failure.
inline void name_stored_form(const family_description& family, failure& why) noexcept {
    if (!why.detail.empty()) why.detail.append("; ");
    why.detail.append("family ");
    why.detail.append(family.name);
    why.detail.append(" has them as \"");
    if (!family.from_module.empty()) {
        why.detail.append(family.from_module);
        why.detail.append(".");
    }
    why.detail.append(family.from->tensors[0].name);
    why.detail.append(family.from->fields[0].suffix);
    why.detail.append("\"");
}

/// Adds the scopes of the set to a failure: the one whose name is most similar to `name`, and the
/// number of scopes.
inline void name_nearest_scope(tensor_set_ref set, const family_description& family,
                               std::string_view name, failure& why) noexcept {
    const auto scopes = experts_scopes::find(set, family);
    if (!scopes) return;
    if (scopes->size() == 0) return name_stored_form(family, why);
    if (scopes->experts_count() == 0) return;
    std::size_t nearest = 0, most = 0;
    for (std::size_t s = 0; s < scopes->experts_count(); ++s) {
        const std::string_view each = (*scopes)[s].name;
        std::size_t front = 0, back = 0;
        while (front < each.size() && front < name.size() && each[front] == name[front]) ++front;
        while (back < each.size() && back < name.size() &&
               each[each.size() - 1 - back] == name[name.size() - 1 - back])
            ++back;
        if (front + back > most) most = front + back, nearest = s;
    }
    why.detail.append(why.detail.empty() ? "the nearest of " : "; the nearest of ");
    why.detail.append_count(scopes->experts_count());
    why.detail.append(" scopes is ");
    why.detail.append((*scopes)[nearest].name);
}

/// Plans the scope with a name, with as few passes over the set as possible.
inline result<copy_plan> plan_named(tensor_set_ref set, const family_description& family,
                                    std::string_view name, const plan_options& options) noexcept {
    const auto count = [&](const vector<std::uint32_t>& members, std::size_t scope_size,
                           const layout_description& layout) noexcept {
        return count_fitting(set, members.view(), scope_size, layout);
    };
    auto members = tensors_under(set, name);
    if (!members) return std::move(members).error();
    experts_scope scope{name, name, scope_state::pending, members->view(), 0};
    text destination;
    if (ends_in_module(name, family.from_module) &&
        count(*members, name.size(), *family.from) > 0) {
        auto made = destination_scope(family, family.module_at(0), name);
        if (!made) return std::move(made).error();
        destination = std::move(*made);
        scope.destination_name = destination;
        auto others = tensors_under(set, destination);
        if (!others) return std::move(others).error();
        // if both forms have the same names, a tensor that fits one form does not indicate the
        // other form
        const bool alike =
            destination.view() == name &&
            count(*members, name.size(), *family.to) == count(*members, name.size(), *family.from);
        if (family.module_at(0).is_same())
            scope.form = scope_state::done;
        else if (!alike && count(*others, destination.size(), *family.to) > 0)
            scope.form = scope_state::mixed;
    } else if (ends_in_module(name, family.to_module) &&
               count(*members, name.size(), *family.to) > 0) {
        scope.form = scope_state::done;
    }
    auto plan = plan_found(set, family, scope, options);
    if (!plan && plan.error().code == errc::no_experts)
        name_nearest_scope(set, family, name, plan.error());
    bool is_experts = true;  // and not another module of the family
    for (std::size_t m = 1; m < family.module_count(); ++m)
        is_experts = is_experts && !ends_in_module(name, family.module_at(m).from_path) &&
                     !ends_in_module(name, family.module_at(m).to_path);
    if (!plan && plan.error().code == errc::unexpected_key && is_experts &&
        count(*members, name.size(), *family.from) + count(*members, name.size(), *family.to) == 0)
        name_stored_form(family, plan.error());
    return plan;
}

}  // namespace detail

/// Plans the experts of one scope of a family by the scope's name in the set. It makes one pass
/// over the names of the set. For many scopes, experts_scopes::find and `plan` of its scopes need
/// one pass in total.
///   fails   both_layouts, and as `plan<From, To>`
template <tensor_set Set>
[[nodiscard]] result<copy_plan> plan(const Set& set SAFEFUSE_LIFETIMEBOUND, std::string_view scope,
                                     const family_description& family, direction way,
                                     const plan_options& options = {}) noexcept {
    if (way == direction::forward) return detail::plan_named(set, family, scope, options);
    return detail::plan_named(set, family.in(way), scope, options);
}
template <detail::owning_tensor_set Set>
result<copy_plan> plan(const Set&&, std::string_view, const family_description&, direction,
                       const plan_options& = {}) = delete;

/// @{
/// Plans a family given as a type: from the hub's form to the model's, or in direction `way`.
///   fails   both_layouts, and as `plan<From, To>`
template <family_type Family, tensor_set Set>
[[nodiscard]] result<copy_plan> plan(const Set& set SAFEFUSE_LIFETIMEBOUND, std::string_view scope,
                                     const plan_options& options = {}) noexcept {
    return detail::plan_named(set, description_of<Family>, scope, options);
}
template <family_type Family, tensor_set Set>
[[nodiscard]] result<copy_plan> plan(const Set& set SAFEFUSE_LIFETIMEBOUND, std::string_view scope,
                                     direction way, const plan_options& options = {}) noexcept {
    return plan(set, scope, description_of<Family>, way, options);
}
/// @}
template <family_type Family, detail::owning_tensor_set Set>
result<copy_plan> plan(const Set&&, std::string_view, const plan_options& = {}) = delete;
template <family_type Family, detail::owning_tensor_set Set>
result<copy_plan> plan(const Set&&, std::string_view, direction, const plan_options& = {}) = delete;
/// Chosen for all other types. Its static_asserts explain what is wrong, instead of a list of
/// candidates.
template <class Family, class Set>
    requires(!family_type<Family> || !tensor_set<Set>)
result<copy_plan> plan(const Set&, std::string_view, const plan_options& = {}) noexcept {
    static_assert(family_type<Family>,
                  "safefuse: plan<Family> needs a family, and plan<From, To> two layouts");
    static_assert(
        !detail::is_result<Set>,
        "safefuse: the set is a result: check whether it failed, then pass its value, *set");
    static_assert(detail::is_result<Set> || tensor_set<Set>,
                  "safefuse: the first argument of plan is not a tensor_set");
    return failure{};
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
