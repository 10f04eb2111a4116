// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: a plan without the places of its bytes. It can be bound to the next layer, or to new
// bytes of the same layer. Binding compares names, dtypes and shapes, and does not plan again.
#ifndef SAFEFUSE_PLAN_PLAN_FORM_HPP
#define SAFEFUSE_PLAN_PLAN_FORM_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/detail/checked.hpp>
#include <safefuse/core/detail/plain.hpp>
#include <safefuse/core/detail/sort.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/plan/detail/stages.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {

/// The content of a plan without the places of its bytes: the tensors that it reads, the outputs
/// that it makes, and its copies with offsets from the start of each tensor. bind() makes the plan
/// of another scope, or of another set, that stores the same tensors under other names or at other
/// places.
///   lifetime  owns all its data; neither the plan nor its set must outlive it
class plan_form {
public:
    /// The form of a plan. It reads the names and places of the plan's set once.
    ///   fails   bad_offsets (two of its tensors share bytes, so a copy cannot be assigned to one
    ///           tensor), file_changed, out_of_memory
    static result<plan_form> of(const copy_plan& plan) noexcept;

    /// The plan of a scope that stores the same tensors: equal local names, dtypes and shapes, at
    /// any places. The result equals a new plan of the scope.
    ///   scope   from experts_scopes::find with this set, or with a set of the same names
    ///   destination_scope   the scope of the outputs. Empty: the name that the family gives the
    ///           scope
    ///   fails   missing_key, unexpected_key, dtype_mismatch, shape_mismatch (the scope has another
    ///           form; the failure names the tensor), both_layouts, size_mismatch (the set reports
    ///           a size that does not fit the dtype and shape), file_changed, out_of_memory
    [[nodiscard]] result<copy_plan> bind(tensor_set_ref set, const experts_scope& scope,
                                         std::string_view destination_scope = {}) const noexcept;
    /// Overload for a scope given by name. It reads every name of the set once.
    ///   destination_scope   the scope of the outputs. It may be empty if `scope` is the scope of
    ///           the original plan, or if the original plan's two scopes are equal
    ///   fails   as above; bad_name (destination_scope must be given)
    [[nodiscard]] result<copy_plan> bind(tensor_set_ref set, std::string_view scope,
                                         std::string_view destination_scope = {}) const noexcept;

    /// The scope of the original plan.
    [[nodiscard]] std::string_view scope() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return detail::characters_at(characters_.data(), scope_size_);
    }
    /// The scope of the original plan's outputs.
    [[nodiscard]] std::string_view destination_scope() const noexcept SAFEFUSE_LIFETIMEBOUND {
        return detail::characters_at(characters_.data() + scope_size_, destination_size_);
    }

private:
    /// A tensor under the scope. The plan reads it or skips it.
    struct member {
        std::size_t name_first;
        std::size_t shape_first;
        std::uint64_t size_bytes;
        std::uint32_t name_size;
        std::uint32_t rank;
        dtype type;
        bool is_taken;
    };
    /// Where the members are in the set that a plan is bound to.
    struct found_members {
        vector<tensor_location> places;  // by member
        vector<std::uint32_t> numbers;   // indices in the set, of the members that the plan reads
        vector<bool> is_there;           // by member
    };
    static constexpr std::size_t npos = ~std::size_t{0};

    plan_form() noexcept = default;

    [[nodiscard]] std::string_view name_of(const member& of) const noexcept {
        return detail::characters_at(characters_.data() + of.name_first, of.name_size);
    }
    [[nodiscard]] shape_view shape_of(const member& of) const noexcept {
        return {extents_.data() + of.shape_first, of.rank};
    }
    [[nodiscard]] std::size_t find(std::string_view local, std::size_t guess) const noexcept;
    [[nodiscard]] text full_name(std::string_view scope, const member& of) const noexcept;

    result<void> add_members(const copy_plan& plan, vector<tensor_location>& places) noexcept;
    result<void> order_members() noexcept;
    result<void> add_outputs(const copy_plan& plan) noexcept;
    static result<void> cut_at_tensors(vector<copy_block>& cut, span<const copy_block> blocks,
                                       span<const tensor_location> places,
                                       span<const std::uint32_t> by_place) noexcept;

    result<void> check_member(const tensor_set_ref& set, std::uint32_t number,
                              const tensor_spec& spec, const tensor_location& place,
                              const member& wanted) const noexcept;
    static result<void> add_blocks(vector<copy_block>& to, span<const copy_block> blocks,
                                   span<const tensor_location> places) noexcept;
    result<void> find_members(found_members& found, const tensor_set_ref& set,
                              span<const std::uint32_t> members,
                              std::string_view scope) const noexcept;
    [[nodiscard]] result<copy_plan> bind_members(const tensor_set_ref& set,
                                                 span<const std::uint32_t> members,
                                                 std::string_view scope,
                                                 std::string_view destination) const noexcept;
    [[nodiscard]] text kept_for_in(std::string_view scope) const noexcept;

    vector<char> characters_;  // both scopes, then the local names of members and outputs
    vector<std::uint64_t> extents_;
    std::size_t scope_size_ = 0;
    std::size_t destination_size_ = 0;
    scope_state form_{};
    std::uint64_t expert_count_ = 0;
    text kept_for_;
    vector<member> members_;  // in the order of their set
    vector<std::uint32_t> by_name_;
    vector<member> outputs_;                    // local names
    vector<std::uint32_t> output_scales_;       // per_part_scales
    vector<copy_block> blocks_, equal_blocks_;  // `source` is the number of a member
};

// ------------------------------------------------------------------------------------------ making

inline result<void> plan_form::add_members(const copy_plan& plan,
                                           vector<tensor_location>& places) noexcept {
    constexpr detail::lack_of_memory no_memory;
    auto under = detail::tensors_under(plan.set(), plan.scope());
    if (!under) return std::move(under).error();
    std::size_t next = 0;
    const span<const std::uint32_t> taken = plan.source_tensors();
    for (const std::uint32_t number : *under) {
        const bool is_taken = next < taken.size() && taken[next] == number;
        next += is_taken ? 1 : 0;
        const tensor_spec spec = plan.set().spec(number);
        const tensor_location place = plan.set().place(number);
        const std::string_view local = spec.name.substr(plan.scope().size() + 1);
        if (!members_.push({characters_.size(), extents_.size(), place.size_bytes,
                            static_cast<std::uint32_t>(local.size()),
                            static_cast<std::uint32_t>(spec.shape.size()), spec.type, is_taken}) ||
            !places.push(place) || !characters_.append(local.data(), local.size()) ||
            !extents_.append(spec.shape.data(), spec.shape.size()))
            return no_memory;
    }
    return order_members();
}

inline result<void> plan_form::order_members() noexcept {
    constexpr detail::lack_of_memory no_memory;
    for (std::uint32_t i = 0; i < members_.size(); ++i)
        if (!by_name_.push(i)) return no_memory;
    if (!detail::sort(by_name_.view(), [&](std::uint32_t a, std::uint32_t b) noexcept {
            return name_of(members_[a]) < name_of(members_[b]);
        }))
        return no_memory;
    return {};
}

inline result<void> plan_form::add_outputs(const copy_plan& plan) noexcept {
    for (const plan_output& each : plan.outputs())
        if (!outputs_.push({characters_.size(), extents_.size(), each.size_bytes,
                            static_cast<std::uint32_t>(each.local_name.size()),
                            static_cast<std::uint32_t>(each.shape.size()), each.type, true}) ||
            !output_scales_.push(each.per_part_scales) ||
            !characters_.append(each.local_name.data(), each.local_name.size()) ||
            !extents_.append(each.shape.data(), each.shape.size()))
            return detail::lack_of_memory{};
    return {};
}

/// Adds blocks whose sources are tensors instead of files. A plan joins copies of adjacent tensors;
/// they are split here where a tensor ends.
///   places     of the members
///   by_place   the members that the plan reads and that have bytes, sorted by source and offset
inline result<void> plan_form::cut_at_tensors(vector<copy_block>& cut,
                                              span<const copy_block> blocks,
                                              span<const tensor_location> places,
                                              span<const std::uint32_t> by_place) noexcept {
    for (const copy_block& block : blocks) {
        copy_block left = block;
        while (left.run_bytes != 0) {
            std::size_t first = 0, last = by_place.size();  // the last that begins at or before it
            while (first < last) {
                const std::size_t middle = first + (last - first) / 2;
                const tensor_location& at = places[by_place[middle]];
                const bool is_after = at.source != left.source ? at.source > left.source
                                                               : at.offset > left.source_offset;
                (is_after ? last : first) = is_after ? middle : middle + 1;
            }
            const std::uint32_t t = first == 0 ? detail::no_index : by_place[first - 1];
            if (t == detail::no_index || places[t].source != left.source ||
                left.source_offset - places[t].offset >= places[t].size_bytes)
                return failure{.code = errc::bad_offsets, .detail = "a copy is of no tensor"};
            copy_block part = left;
            part.source = t;
            part.source_offset = left.source_offset - places[t].offset;
            const std::uint64_t rest = places[t].size_bytes - part.source_offset;
            if (left.loop_count == 0 && part.run_bytes > rest) part.run_bytes = rest;
            if (part.source_extent_bytes() > rest)
                return failure{.code = errc::bad_offsets,
                               .detail = "a strided copy is of several tensors"};
            if (!cut.push(part)) return detail::lack_of_memory{};
            if (left.loop_count != 0) break;
            left.source_offset += part.run_bytes;
            left.destination_offset += part.run_bytes;
            left.run_bytes -= part.run_bytes;
        }
    }
    return {};
}

inline result<plan_form> plan_form::of(const copy_plan& plan) noexcept {
    constexpr detail::lack_of_memory no_memory;
    plan_form out;
    const std::string_view scope = plan.scope();
    std::string_view destination = scope;
    if (!plan.outputs().empty()) {
        const plan_output& first = plan.outputs()[0];
        destination = first.name.substr(0, first.name.size() - first.local_name.size() - 1);
    }
    out.scope_size_ = scope.size();
    out.destination_size_ = destination.size();
    out.form_ = plan.source_form();
    out.expert_count_ = plan.expert_count();
    out.kept_for_ = text{plan.kept_for()};
    if (out.kept_for_.size() != plan.kept_for().size() ||
        !out.characters_.append(scope.data(), scope.size()) ||
        !out.characters_.append(destination.data(), destination.size()))
        return no_memory;
    vector<tensor_location> places;
    vector<std::uint32_t> by_place;
    if (auto added = out.add_members(plan, places); !added) return std::move(added).error();
    if (auto added = out.add_outputs(plan); !added) return std::move(added).error();
    for (std::uint32_t i = 0; i < places.size(); ++i)
        if (out.members_[i].is_taken && places[i].size_bytes != 0 && !by_place.push(i))
            return no_memory;
    if (!detail::sort(by_place.view(), [&](std::uint32_t a, std::uint32_t b) noexcept {
            return places[a].source != places[b].source ? places[a].source < places[b].source
                                                        : places[a].offset < places[b].offset;
        }))
        return no_memory;
    for (std::size_t i = 1; i < by_place.size(); ++i) {
        const tensor_location &before = places[by_place[i - 1]], &each = places[by_place[i]];
        if (before.source == each.source && each.offset - before.offset < before.size_bytes)
            return failure{.code = errc::bad_offsets,
                           .file = text{plan.set().source_name(each.source)},
                           .tensor = out.full_name(scope, out.members_[by_place[i]]),
                           .detail = "it shares bytes with another tensor of the plan"};
    }
    for (const bool equal : {false, true})
        if (auto cut = cut_at_tensors(equal ? out.equal_blocks_ : out.blocks_,
                                      equal ? plan.equal_blocks() : plan.blocks(), places.view(),
                                      by_place.view());
            !cut) {
            cut.error().scope = text{scope};
            return std::move(cut).error();
        }
    return out;
}

// ----------------------------------------------------------------------------------------- binding

/// The index of the member with this name, or npos. Tries `guess` first, because most members keep
/// their index.
inline std::size_t plan_form::find(std::string_view local, std::size_t guess) const noexcept {
    if (guess < members_.size() && name_of(members_[guess]) == local) return guess;
    std::size_t first = 0, last = by_name_.size();
    while (first < last) {
        const std::size_t middle = first + (last - first) / 2;
        const bool is_before = name_of(members_[by_name_[middle]]) < local;
        (is_before ? first : last) = is_before ? middle + 1 : middle;
    }
    return first < by_name_.size() && name_of(members_[by_name_[first]]) == local ? by_name_[first]
                                                                                  : npos;
}

inline text plan_form::full_name(std::string_view scope, const member& of) const noexcept {
    text out{scope};
    out.append(".");
    out.append(name_of(of));
    return out;
}

/// Checks that a tensor of the set has the dtype, the shape and the size that the form has for its
/// name.
inline result<void> plan_form::check_member(const tensor_set_ref& set, std::uint32_t number,
                                            const tensor_spec& spec, const tensor_location& place,
                                            const member& wanted) const noexcept {
    std::uint64_t end = 0;
    if (spec.type != wanted.type) {
        failure why = detail::fault(set, errc::dtype_mismatch, number, "it is ");
        why.detail.append(name(spec.type));
        why.detail.append(", and the plan that is bound was made for ");
        why.detail.append(name(wanted.type));
        return why;
    }
    if (!detail::same_shape(spec.shape, shape_of(wanted))) {
        failure why = detail::fault(set, errc::shape_mismatch, number,
                                    "the plan that is bound was made for [");
        for (std::size_t a = 0; a < wanted.rank; ++a) {
            if (a != 0) why.detail.append(", ");
            why.detail.append_number(shape_of(wanted)[a]);
        }
        why.detail.append("]");
        return why;
    }
    if (place.size_bytes != wanted.size_bytes ||
        !detail::checked_add(place.offset, place.size_bytes, end)) {
        failure why = detail::fault(set, errc::size_mismatch, number);
        why.expected = wanted.size_bytes;
        why.actual = place.size_bytes;
        return why;
    }
    return {};
}

/// Finds the tensors of the form among `members`, the tensors of a set whose names begin with the
/// scope and a dot.
inline result<void> plan_form::find_members(found_members& found, const tensor_set_ref& set,
                                            span<const std::uint32_t> members,
                                            std::string_view scope) const noexcept {
    if (!found.places.resize(members_.size()) || !found.is_there.resize(members_.size(), false) ||
        !found.numbers.reserve(members_.size()))
        return detail::lack_of_memory{};
    detail::source_check check{set};
    std::size_t guess = 0;
    for (const std::uint32_t number : members) {
        if (number >= set.size())
            return failure{.code = errc::out_of_range,
                           .scope = text{scope},
                           .detail = "the scope is of a set with more tensors",
                           .expected = set.size(),
                           .actual = number};
        const tensor_location place = set.place(number);
        if (auto same = check.before(place.source); !same) return same;
        const tensor_spec spec = set.spec(number);
        const std::string_view name = spec.name;
        const bool is_under =
            name.size() > scope.size() && name[scope.size()] == '.' && name.starts_with(scope);
        const std::size_t m = is_under ? find(name.substr(scope.size() + 1), guess) : npos;
        if (m == npos)
            return detail::fault(set, errc::unexpected_key, number,
                                 "the plan that is bound has no such tensor");
        guess = m + 1;
        if (!members_[m].is_taken) continue;
        if (found.is_there[m]) return detail::fault(set, errc::duplicate_tensor, number);
        if (auto same = check_member(set, number, spec, place, members_[m]); !same) return same;
        found.is_there[m] = true;
        found.places[m] = place;
        static_cast<void>(found.numbers.push(number));  // there is room
    }
    for (std::size_t m = 0; m < members_.size(); ++m)
        if (members_[m].is_taken && !found.is_there[m])
            return failure{.code = errc::missing_key,
                           .tensor = full_name(scope, members_[m]),
                           .detail = "the plan that is bound takes it"};
    return {};
}

/// The reason why experts are moved whole, for another scope.
inline text plan_form::kept_for_in(std::string_view scope) const noexcept {
    text out;
    std::string_view left = kept_for_;
    for (std::size_t at = left.find(this->scope()); at != std::string_view::npos && !left.empty();
         at = left.find(this->scope())) {
        out.append(left.substr(0, at));
        out.append(scope);
        left = left.substr(at + scope_size_);
        if (scope_size_ == 0) break;
    }
    out.append(left);
    return out;
}

/// Adds blocks at the places of the members, and sorts and joins them as a plan does. Most are
/// already sorted, because most layers are stored in the same order.
inline result<void> plan_form::add_blocks(vector<copy_block>& to, span<const copy_block> blocks,
                                          span<const tensor_location> places) noexcept {
    if (!to.reserve(blocks.size())) return detail::lack_of_memory{};
    bool in_order = true;
    for (const copy_block& each : blocks) {
        const tensor_location& place = places[each.source];
        const std::uint64_t offset = place.offset + each.source_offset;
        if (!to.empty())
            in_order =
                in_order && (to.back().source != place.source ? to.back().source < place.source
                                                              : to.back().source_offset <= offset);
        static_cast<void>(to.push(each));  // there is room
        to.back().source = place.source;
        to.back().source_offset = offset;
    }
    if (!in_order)
        if (auto sorted = detail::sort_blocks(to); !sorted) return sorted;
    detail::join_blocks(to);
    return {};
}

inline result<copy_plan> plan_form::bind_members(const tensor_set_ref& set,
                                                 span<const std::uint32_t> members,
                                                 std::string_view scope,
                                                 std::string_view destination) const noexcept {
    constexpr detail::lack_of_memory no_memory;
    found_members found;
    if (auto done = find_members(found, set, members, scope); !done) {
        if (done.error().scope.empty()) done.error().scope = text{scope};
        return std::move(done).error();
    }
    detail::output_list list;
    detail::copy_list copies;
    if (!list.characters.append(scope.data(), scope.size())) return no_memory;
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
        const member& each = outputs_[i];
        const std::string_view local = name_of(each);
        const std::size_t name_size = destination.size() + 1 + local.size();
        const plan_output output{
            {detail::characters_at(local.data(), name_size), each.type, shape_of(each)},
            {},
            each.size_bytes,
            output_scales_[i]};  // bind points it to its name
        if (!list.characters.append(destination.data(), destination.size()) ||
            !list.characters.append(".", 1) ||
            !list.characters.append(local.data(), local.size()) ||
            !list.extents.append(output.shape.data(), output.shape.size()) ||
            !list.outputs.push(output))
            return no_memory;
    }
    detail::bind(list, scope.size(), destination.size());
    for (const bool equal : {false, true})
        if (auto added = add_blocks(equal ? copies.equal_blocks : copies.blocks,
                                    (equal ? equal_blocks_ : blocks_).view(), found.places.view());
            !added)
            return std::move(added).error();
    if (!detail::sort(found.numbers.view(),
                      [](std::uint32_t a, std::uint32_t b) noexcept { return a < b; }))
        return no_memory;
    text kept_for = kept_for_in(scope);
    if (kept_for.lacks_memory()) return no_memory;
    return detail::plan_access::make(set, scope.size(), form_, expert_count_, std::move(list),
                                     std::move(copies), std::move(found.numbers),
                                     std::move(kept_for));
}

inline result<copy_plan> plan_form::bind(tensor_set_ref set, const experts_scope& scope,
                                         std::string_view destination_scope) const noexcept {
    if (scope.form == scope_state::mixed)
        return failure{.code = errc::both_layouts, .scope = text{scope.name}};
    return bind_members(set, scope.tensors, scope.name,
                        destination_scope.empty() ? scope.destination_name : destination_scope);
}

inline result<copy_plan> plan_form::bind(tensor_set_ref set, std::string_view scope,
                                         std::string_view destination_scope) const noexcept {
    if (destination_scope.empty()) {
        if (scope != this->scope() && this->scope() != this->destination_scope())
            return failure{.code = errc::bad_name,
                           .scope = text{scope},
                           .detail = "the outputs have another scope: pass destination_scope"};
        destination_scope = scope == this->scope() ? this->destination_scope() : scope;
    }
    auto members = detail::tensors_under(set, scope);
    if (!members) return std::move(members).error();
    if (destination_scope != scope) {
        auto others = detail::tensors_under(set, destination_scope);
        if (!others) return std::move(others).error();
        for (const std::uint32_t other : *others)
            for (const member& each : outputs_)
                if (set.spec(other).name.substr(destination_scope.size() + 1) == name_of(each))
                    return detail::fault(set, errc::both_layouts, other);
    }
    return bind_members(set, members->view(), scope, destination_scope);
}

}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
