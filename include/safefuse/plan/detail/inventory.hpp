// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the first stage of a plan: names become an inventory, which tells which tensor of the
// set is which field of which expert.
//
//     name_dims      two layouts          -> extent_table    every extent gets a number
//     match_names    names of the scope   -> found_tensor[]  tensor, field and number of each name
//     count_experts  found_tensor[]       -> E               the highest number + 1
//     fill_table     found_tensor[]       -> table           [tensor][field][expert], no holes
//
// This stage reads only names, no shape and no dtype.
#ifndef SAFEFUSE_PLAN_DETAIL_INVENTORY_HPP
#define SAFEFUSE_PLAN_DETAIL_INVENTORY_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/layout/detail/layout_names.hpp>
#include <safefuse/layout/layout.hpp>
#include <safefuse/plan/plan_options.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace safefuse {
inline namespace SAFEFUSE_ABI {
namespace detail {

/// No tensor of the set.
inline constexpr std::uint32_t absent = ~std::uint32_t{0};
/// No extent.
inline constexpr std::uint8_t no_dim = max_dims;

/// The named extents of both layouts of a plan. An extent's index is its dim; 0 is E.
struct extent_table {
    layout_args x;       ///< names and values; the value of an unknown extent is 0
    unsigned used = 0;   ///< the dims that a part mentions, one bit each
    unsigned known = 0;  ///< the dims whose values are known, one bit each

    [[nodiscard]] bool is_used(std::size_t dim) const noexcept { return (used & (1u << dim)) != 0; }
    [[nodiscard]] bool is_known(std::size_t dim) const noexcept {
        return (known & (1u << dim)) != 0;
    }
};

/// The experts that have a part, as dims.
struct group_symbols {
    std::uint8_t count = no_dim;  ///< dim of the extent that counts them; no_dim: no experts
    std::uint8_t after = no_dim;  ///< dim of the extent that counts the experts before them
};

/// The experts of each tensor of the source's layout. Groups that share the numbers of experts form
/// a chain: the first is numbered from 0, and each of the others continues the one before it.
struct expert_groups {
    vector<group_symbols> of_tensor;  ///< by tensor of the source's layout

    /// The group before the one that `dim` counts.
    [[nodiscard]] std::uint8_t before(std::uint8_t dim) const noexcept {
        for (const group_symbols& each : of_tensor)
            if (each.count == dim) return each.after;
        return no_dim;
    }
    /// The group after the one that `dim` counts.
    [[nodiscard]] std::uint8_t after(std::uint8_t dim) const noexcept {
        for (const group_symbols& each : of_tensor)
            if (each.after == dim) return each.count;
        return no_dim;
    }
    /// The first group of the chain of `dim`.
    [[nodiscard]] std::uint8_t first(std::uint8_t dim) const noexcept {
        while (before(dim) != no_dim) dim = before(dim);
        return dim;
    }
    /// The number of a group's first expert.
    ///   @post  the sum of the counts of all groups before it
    [[nodiscard]] SAFEFUSE_NOINLINE std::uint64_t first_number(
        group_symbols group, const layout_args& x) const noexcept {
        std::uint64_t number = 0;
        for (std::uint8_t s = group.after; s != no_dim; s = before(s)) number += x.values[s];
        return number;
    }
};

/// A tensor of the set that is field `field` of tensor `tensor` of the source's layout.
struct found_tensor {
    std::uint32_t tensor;
    std::uint32_t field;
    std::uint64_t expert;  ///< its number in the name; in an inventory: its index in its group
    std::uint32_t index;   ///< in the set
};

/// The tensors of one scope, each in its place. The set and the layout must outlive it.
struct inventory {
    tensor_set_ref set;
    std::string_view scope;            ///< of the source
    const layout_description* layout;  ///< of the source; never null
    extent_table extents{};            ///< as known from names and from the caller
    expert_groups groups{};
    vector<found_tensor> found{};   ///< in the order of the set
    std::size_t rows = 1;           ///< experts that the table has room for
    vector<std::uint32_t> table{};  ///< [tensor][field][expert]: index in the set, or absent
    vector<bool> present{};         ///< [tensor][field]

    /// Whether the source has a field of a tensor.
    [[nodiscard]] bool has(std::uint32_t tensor, std::uint32_t field) const noexcept {
        return present[tensor * layout->fields.size() + field];
    }
    /// The index in the set of a field of a tensor of an expert; tensors that hold all experts have
    /// expert 0 only.
    [[nodiscard]] std::uint32_t at(std::uint32_t tensor, std::uint32_t field,
                                   std::uint64_t expert) const noexcept {
        return table[row(tensor, field) + static_cast<std::size_t>(expert)];
    }
    /// Start of a field of a tensor in the table.
    [[nodiscard]] std::size_t row(std::uint32_t tensor, std::uint32_t field) const noexcept {
        return (tensor * layout->fields.size() + field) * rows;
    }
    /// The value field: the first field with role `value` that the source has, or 0.
    [[nodiscard]] std::uint32_t value_field() const noexcept {
        for (const found_tensor& each : found)
            if (layout->fields[each.field].field->role == field_role::value) return each.field;
        return 0;
    }
};

// ------------------------------------------------------------------------------------- failures

constexpr lack_of_memory no_memory() noexcept { return {}; }

/// A failure that names a tensor which need not be in the set, or none.
[[nodiscard]] SAFEFUSE_COLD inline failure refuse(errc code, const text& tensor,
                                                  std::string_view detail = {},
                                                  std::uint64_t expected = unknown,
                                                  std::uint64_t actual = unknown) noexcept {
    return {.code = code,
            .tensor = tensor,
            .detail = text{detail},
            .expected = expected,
            .actual = actual};
}

/// A failure that names a tensor of the set and its file.
[[nodiscard]] SAFEFUSE_COLD inline failure fault(const tensor_set_ref& set, errc code,
                                                 std::uint32_t index,
                                                 std::string_view detail = {}) noexcept {
    return {.code = code,
            .file = text{set.source_name(set.place(index).source)},
            .tensor = text{set.spec(index).name},
            .detail = text{detail}};
}

/// The full name of a tensor of a layout, present or not.
[[nodiscard]] SAFEFUSE_NOINLINE inline text full_name(std::string_view scope,
                                                      const layout_description& layout,
                                                      std::uint32_t tensor, std::uint32_t field,
                                                      std::uint64_t expert) noexcept {
    text out{scope};
    out.append(".");
    spell(out, layout.tensors[tensor].name, expert, layout.fields[field].suffix);
    return out;
}

/// The full name of a field of a source tensor, for its group's first expert.
[[nodiscard]] inline text first_name(const inventory& of, const layout_args& x,
                                     std::uint32_t tensor, std::uint32_t field) noexcept {
    const std::uint64_t number = of.groups.first_number(of.groups.of_tensor[tensor], x);
    return full_name(of.scope, *of.layout, tensor, field, number);
}

/// The failure for an expert without such a tensor.
[[nodiscard]] SAFEFUSE_COLD inline failure no_expert(errc code, const inventory& of,
                                                     std::uint32_t tensor, std::uint32_t field,
                                                     std::uint64_t number) noexcept {
    failure error = refuse(code, full_name(of.scope, *of.layout, tensor, field, number));
    error.expert = number;
    return error;
}

// -------------------------------------------------------------------------------------- dims

/// The dim of a name, or no_dim.
[[nodiscard]] SAFEFUSE_NOINLINE inline std::uint8_t symbol_of(const layout_args& x,
                                                              std::string_view name) noexcept {
    for (std::uint8_t s = 0; s < x.dim_count; ++s)
        if (x.names[s] == name) return s;
    return no_dim;
}
[[nodiscard]] inline group_symbols group_of(const layout_args& x,
                                            const part_mapping& part) noexcept {
    return {symbol_of(x, part.experts), symbol_of(x, part.after)};
}

/// Gives the extents of a part their dims. Returns false if there are too many.
inline bool add_symbols(extent_table& extents, const part_mapping& part) noexcept {
    const auto use = [&](std::string_view name) noexcept {
        const std::size_t dim = extents.x.dim(name);
        if (dim == max_dims) return false;
        extents.used |= 1u << dim;
        return true;
    };
    bool fits =
        (part.experts.empty() || use(part.experts)) && (part.after.empty() || use(part.after));
    for (std::size_t a = 0; fits && a < part.part_axes; ++a) fits = use(part.extents[a]);
    return fits;
}

/// Numbers the extents of two layouts in the order in which the layouts mention them. ONE is 1.
///   fails   unnested_groups (too many extents), out_of_memory
[[nodiscard]] inline result<void> name_dims(extent_table& extents, expert_groups& groups,
                                            const layout_description& from,
                                            const layout_description& to) noexcept {
    for (const layout_description* layout : {&from, &to})
        for (const tensor_description& tensor : layout->tensors) {
            const mapping placed = tensor.place(extents.x);
            for (std::size_t p = 0; p < placed.part_count; ++p)
                if (!add_symbols(extents, placed.parts[p]))
                    return refuse(errc::unnested_groups, {},
                                  "the layout has more extents than a plan supports");
            if (layout == &from && !groups.of_tensor.push(group_of(extents.x, placed.parts[0])))
                return no_memory();
        }
    for (std::size_t s = 0; s < extents.x.dim_count; ++s)
        if (extents.x.names[s] == "ONE") {
            extents.x.values[s] = 1;
            extents.known |= 1u << s;
        }
    return {};
}

// ---------------------------------------------------------------------------------------- names

/// Matches the names of `members`, which begin with a scope of `scope_size` characters, with the
/// source's layout.
///   other   the destination's layout if its tensors must not be there, too; else null
///   fails   no_experts, unexpected_key, both_layouts, out_of_memory
[[nodiscard]] inline result<void> match_names(vector<found_tensor>& found,
                                              const tensor_set_ref& set,
                                              span<const std::uint32_t> members,
                                              std::size_t scope_size,
                                              const layout_description& from,
                                              const layout_description* other) noexcept {
    std::uint32_t of_other = absent;
    for (const std::uint32_t index : members) {
        const std::string_view local = set.spec(index).name.substr(scope_size + 1);
        const matched_name name = match(from, local);
        if (name.verdict == name_verdict::leftover) return fault(set, errc::unexpected_key, index);
        if (name.verdict == name_verdict::tensor) {
            if (!found.push({name.tensor, name.field, name.expert, index})) return no_memory();
        } else if (other != nullptr && match(*other, local).verdict == name_verdict::tensor) {
            of_other = index;
        }
    }
    if (found.empty()) return refuse(errc::no_experts, {});
    if (of_other != absent) return fault(set, errc::both_layouts, of_other);
    return {};
}

// -------------------------------------------------------------------------------------- experts

/// Divides `count` experts among a chain of G groups: each gets ceil(count / G), the last ones what
/// is left. Returns the dims of the chain, one bit each.
///   @post  the shares add up to `count`
SAFEFUSE_NOINLINE inline unsigned divide_experts(layout_args& x, const expert_groups& groups,
                                                 std::uint8_t first, std::uint64_t count) noexcept {
    std::uint64_t shares = 0;
    unsigned chain = 0;
    for (std::uint8_t s = first; s != no_dim; s = groups.after(s)) ++shares;
    const std::uint64_t share = count / shares + (count % shares == 0 ? 0 : 1);
    for (std::uint8_t s = first; s != no_dim; s = groups.after(s)) {
        x.values[s] = share < count ? share : count;
        count -= x.values[s];
        chain |= 1u << s;
    }
    return chain;
}

/// The failure for the first number that no tensor has. The highest number of a chain is at least
/// the number of its names, so a number below that count is missing.
[[nodiscard]] SAFEFUSE_COLD inline failure missing_number(const inventory& of,
                                                          std::uint8_t chain) noexcept {
    vector<bool> seen;
    if (!seen.resize(of.found.size() + 1, false)) return no_memory();
    const found_tensor* like = nullptr;
    for (std::size_t i = of.found.size(); i-- > 0;) {
        const found_tensor& each = of.found[i];
        if (!of.layout->tensors[each.tensor].per_expert() ||
            of.groups.first(of.groups.of_tensor[each.tensor].count) != chain)
            continue;
        like = &each;
        if (each.expert < of.found.size()) seen[static_cast<std::size_t>(each.expert)] = true;
    }
    std::uint64_t number = 0;
    while (seen[static_cast<std::size_t>(number)]) ++number;
    return no_expert(errc::missing_expert, of, like->tensor, like->field, number);
}

/// Counts the experts by the numbers in their names: E = the highest number + 1, for each chain of
/// groups. Sets their extents and the rows of the table.
///   fails   missing_expert (there are fewer names than numbers), out_of_memory
[[nodiscard]] inline result<void> count_experts(inventory& of) noexcept {
    std::uint64_t names[max_dims + 1]{}, highest[max_dims + 1]{};  // by the first group of a chain
    for (const found_tensor& each : of.found) {
        if (!of.layout->tensors[each.tensor].per_expert()) continue;
        const std::uint8_t chain = of.groups.first(of.groups.of_tensor[each.tensor].count);
        if (each.expert > highest[chain]) highest[chain] = each.expert;
        ++names[chain];
    }
    for (std::uint8_t s = 0; s < of.extents.x.dim_count; ++s) {
        if (names[s] == 0) continue;
        if (highest[s] >= names[s]) return missing_number(of, s);
        const std::uint64_t count = highest[s] + 1;
        of.extents.known |= divide_experts(of.extents.x, of.groups, s, count);
        if (count > of.rows) of.rows = static_cast<std::size_t>(count);
    }
    return {};
}

/// Adds the extents that the caller knows.
///   fails   unexpected_extent (the names say otherwise)
[[nodiscard]] inline result<void> add_known(extent_table& extents,
                                            span<const known_extent> known) noexcept {
    for (const known_extent& each : known) {
        const std::uint8_t dim = symbol_of(extents.x, each.name);
        if (dim == no_dim || !extents.is_used(dim)) continue;
        std::uint64_t& value = extents.x.values[dim];
        if (extents.is_known(dim) && value != each.value)
            return refuse(errc::unexpected_extent, {}, each.name, each.value, value);
        value = each.value;
        extents.known |= 1u << dim;
    }
    return {};
}

// ---------------------------------------------------------------------------------------- table

/// Finds the group and the index in it by the number, since several groups may share one name.
inline void assign_group(const inventory& of, found_tensor& found) noexcept {
    for (std::uint32_t t = 0; t < of.layout->tensors.size(); ++t) {
        if (of.layout->tensors[t].name != of.layout->tensors[found.tensor].name) continue;
        const group_symbols group = of.groups.of_tensor[t];
        const std::uint64_t first = of.groups.first_number(group, of.extents.x);
        if (found.expert < first || found.expert - first >= of.extents.x.values[group.count])
            continue;
        found.tensor = t;
        found.expert -= first;
        return;
    }
}

[[nodiscard]] SAFEFUSE_COLD inline failure duplicate(const inventory& of, const found_tensor& found,
                                                     bool per_expert) noexcept {
    failure error = fault(of.set, errc::duplicate_expert, found.index);
    const group_symbols group = of.groups.of_tensor[found.tensor];
    if (per_expert) error.expert = of.groups.first_number(group, of.extents.x) + found.expert;
    return error;
}

/// Puts every tensor into the table.
///   fails   duplicate_expert, out_of_memory
[[nodiscard]] inline result<void> fill_table(inventory& of) noexcept {
    const std::size_t kinds = of.layout->tensors.size() * of.layout->fields.size();
    if (!of.table.resize(kinds * of.rows, absent) || !of.present.resize(kinds, false))
        return no_memory();
    for (found_tensor& each : of.found) {
        const bool per_expert = of.layout->tensors[each.tensor].per_expert();
        if (per_expert) assign_group(of, each);
        const std::size_t row = of.row(each.tensor, each.field);
        std::uint32_t& index = of.table[row + static_cast<std::size_t>(each.expert)];
        if (index != absent) return duplicate(of, each, per_expert);
        index = each.index;
        of.present[row / of.rows] = true;
    }
    return {};
}

/// Checks that an expert has every field that any expert of its group has.
///   fails   missing_expert (it has none of them), missing_key
[[nodiscard]] inline result<void> check_expert(const inventory& of, std::uint8_t group,
                                               std::uint64_t expert) noexcept {
    bool any = false;
    std::uint32_t missing_tensor = absent, missing_field = 0;
    for (std::uint32_t t = 0; t < of.layout->tensors.size(); ++t) {
        if (!of.layout->tensors[t].per_expert() || of.groups.of_tensor[t].count != group) continue;
        for (std::uint32_t f = 0; f < of.layout->fields.size(); ++f) {
            if (!of.has(t, f)) continue;
            if (of.at(t, f, expert) != absent) {
                any = true;
            } else if (missing_tensor == absent) {
                missing_tensor = t;
                missing_field = f;
            }
        }
    }
    if (missing_tensor == absent) return {};
    const group_symbols dims = of.groups.of_tensor[missing_tensor];
    const std::uint64_t number = of.groups.first_number(dims, of.extents.x) + expert;
    return no_expert(any ? errc::missing_key : errc::missing_expert, of, missing_tensor,
                     missing_field, number);
}

/// Checks all experts of the groups `numbered`, one bit each.
///   fails   missing_expert, missing_key
[[nodiscard]] inline result<void> check_experts(const inventory& of, unsigned numbered) noexcept {
    for (std::uint8_t s = 0; s < of.extents.x.dim_count; ++s) {
        if ((numbered & (1u << s)) == 0) continue;
        for (std::uint64_t e = 0; e < of.extents.x.values[s]; ++e)
            if (auto whole = check_expert(of, s, e); !whole) return whole;
    }
    return {};
}

/// Checks that every tensor of the layout is there in a value field.
///   fails   missing_key
[[nodiscard]] inline result<void> check_values(const inventory& of) noexcept {
    for (std::uint32_t t = 0; t < of.layout->tensors.size(); ++t) {
        bool has_value = false;
        for (std::uint32_t f = 0; f < of.layout->fields.size(); ++f)
            has_value = has_value ||
                        (of.has(t, f) && of.layout->fields[f].field->role == field_role::value);
        if (!has_value)
            return refuse(errc::missing_key, first_name(of, of.extents.x, t, of.value_field()));
    }
    return {};
}

/// Makes the inventory of `members`, whose names begin with `scope` and a dot.
///   other_may_be_there   false: tensors of the destination's layout are a failure
///   fails   no_experts, unexpected_key, both_layouts, missing_expert, missing_key,
///           duplicate_expert, unexpected_extent, unnested_groups, out_of_memory
///   @post   at(t, f, e) is a tensor of the set for every t and f with has(t, f), and every expert
///           e of the group of t
[[nodiscard]] inline result<inventory> take_inventory(
    const tensor_set_ref& set, span<const std::uint32_t> members, std::string_view scope,
    const layout_description& from, const layout_description& to, bool other_may_be_there,
    span<const known_extent> known) noexcept {
    inventory out{set, scope, &from};
    const layout_description* const other = other_may_be_there ? nullptr : &to;
    auto done = name_dims(out.extents, out.groups, from, to);
    if (done) done = match_names(out.found, set, members, scope.size(), from, other);
    if (done) done = count_experts(out);
    const unsigned numbered = out.extents.known;
    if (done) done = add_known(out.extents, known);
    if (done) done = fill_table(out);
    if (done) done = check_experts(out, numbered);
    if (done) done = check_values(out);
    if (!done) return std::move(done).error();
    return out;
}

}  // namespace detail
}  // namespace SAFEFUSE_ABI
}  // namespace safefuse

#endif
