// A table of tensors that nearly fits a layout. It is planned by every family in both directions
// and between layouts, run, and run back. The input: the layout, E, I, H, the dtype, the fields and
// their forms, then steps of three bytes that each break the table somewhere.
#include "fuzz.hpp"

#include <cstring>
#include <span>
#include <vector>

#include <safefuse/detect/detect.hpp>
#include <safefuse/plan/plan.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/run/compare_scales.hpp>
#include <safefuse/run/fuse.hpp>
#include <safefuse/run/fuse_range.hpp>

#include "../support/laws.hpp"

namespace sf = safefuse;

namespace {

using sf::layouts::down, sf::layouts::gate, sf::layouts::up;
using quantised_rows_in_turn =
    sf::layout<sf::parameter_suffixes,
               sf::tensor<"gate_up_proj", sf::stack<sf::interleave<0, 1, gate, up>>>,
               sf::tensor<"down_proj", sf::stack<down>>>;
using quantised_up_first =
    sf::layout<sf::parameter_suffixes, sf::tensor<"w3_w1", sf::stack<sf::concat<0, up, gate>>>,
               sf::tensor<"w2", sf::stack<down>>>;

constexpr std::size_t most_bytes = 1 << 13;
constexpr std::size_t most_tensors = 64;

struct spelled_tensor {
    std::string name;
    sf::dtype type;
    std::vector<std::uint64_t> shape;
};
using table = std::vector<spelled_tensor>;

std::uint64_t extent(std::uint8_t choice) {
    constexpr std::uint64_t odd[] = {0,
                                     1,
                                     2,
                                     3,
                                     4,
                                     6,
                                     8,
                                     16,
                                     127,
                                     128,
                                     129,
                                     256,
                                     1u << 20,
                                     std::uint64_t{1} << 32,
                                     std::uint64_t{1} << 62,
                                     ~std::uint64_t{0}};
    return choice < 200 ? choice % 9 : odd[choice % std::size(odd)];
}

/// The tensors of a layout with its names and shapes, in the fields and forms that the input
/// selects.
table tensors_of(const sf::layout_description& layout, const std::string& scope,
                 fuzz::reader& input, std::vector<sf::known_extent>* known = nullptr) {
    const std::uint64_t values[] = {extent(input.byte()), extent(input.byte()),
                                    extent(input.byte())};  // E, I, H
    const auto type = static_cast<sf::dtype>(input.byte() % sf::dtype_count);
    const std::uint32_t fields = input.byte() | static_cast<std::uint32_t>(input.byte() << 8);
    const std::uint8_t forms = input.byte();
    sf::layout_args extents;
    for (const sf::tensor_description& each : layout.tensors) {
        const sf::mapping placed = each.place(extents);
        for (std::size_t p = 0; p < placed.part_count; ++p) {
            if (!placed.parts[p].experts.empty())
                static_cast<void>(extents.dim(placed.parts[p].experts));
            if (!placed.parts[p].after.empty())
                static_cast<void>(extents.dim(placed.parts[p].after));
            for (std::size_t a = 0; a < placed.parts[p].part_axes; ++a)
                static_cast<void>(extents.dim(placed.parts[p].extents[a]));
        }
    }
    for (std::size_t s = 0; s < extents.dim_count; ++s) {
        const std::string_view name = extents.names[s];
        extents.values[s] = name == "E"   ? values[0]
                            : name == "I" ? values[1]
                            : name == "H" ? values[2]
                            : name == "V" ? values[0] - values[0] / 4 % 2
                                          : extent(input.byte());
        if (known != nullptr) known->push_back({name, extents.values[s]});
    }
    table out;
    for (const sf::tensor_description& each : layout.tensors)
        for (std::size_t f = 0; f < layout.fields.size(); ++f) {
            if ((fields >> f & 1) == 0) continue;
            sf::layout_args x = extents;
            const auto& found = layout.fields[f].field->forms;
            x.field = &found[forms % found.size()];
            const sf::mapping placed = each.place(x);
            std::vector<std::uint64_t> shape;
            for (std::size_t a = 0; a < placed.axis_count; ++a)
                if (placed.axes[a].present) shape.push_back(placed.axes[a].extent);
            const std::uint64_t first =
                placed.parts[0].after.empty() ? 0 : extents.value(placed.parts[0].after);
            const std::uint64_t count =
                each.per_expert() ? extents.value(placed.parts[0].experts) : 1;
            for (std::uint64_t e = 0; e < count && out.size() < most_tensors; ++e) {
                sf::text name{scope + "."};
                FUZZ_HOLD(sf::detail::spell(name, each.name, first + e, layout.fields[f].suffix));
                const sf::field_role role = layout.fields[f].field->role;
                out.push_back({std::string{name.view()},
                               role == sf::field_role::value    ? type
                               : role == sf::field_role::addend ? sf::dtype::bf16
                                                                : sf::dtype::f32,
                               shape});
            }
        }
    return out;
}

void break_somewhere(table& tensors, fuzz::reader& input) {
    for (int steps = 0; !input.empty() && steps < 16 && !tensors.empty(); ++steps) {
        const std::uint8_t what = input.byte(), which = input.byte(), how = input.byte();
        const std::size_t i = which % tensors.size();
        spelled_tensor& each = tensors[i];
        switch (what % 9) {
        case 0: tensors.erase(tensors.begin() + static_cast<std::ptrdiff_t>(i)); break;
        case 1:
            if (!each.shape.empty()) each.shape[how % each.shape.size()] = extent(input.byte());
            break;
        case 2: each.type = static_cast<sf::dtype>(how % sf::dtype_count); break;
        case 3: each.name.insert(how % (each.name.size() + 1), input.take(1)); break;
        case 4: each.name[how % each.name.size()] = static_cast<char>(input.byte()); break;
        case 5:
            each.shape.insert(
                each.shape.begin() + static_cast<std::ptrdiff_t>(how % (each.shape.size() + 1)),
                extent(input.byte()));
            break;
        case 6:
            if (!each.shape.empty()) each.shape.pop_back();
            break;
        case 7:
            if (tensors.size() < most_tensors)
                tensors.push_back(
                    {"m.mlp.experts." + std::string{input.take(how % 32)}, each.type, each.shape});
            break;
        default: std::swap(each, tensors[how % tensors.size()]);
        }
        for (std::size_t k = 0; k < tensors.size(); ++k)
            if (tensors[k].name.size() < 2) tensors[k].name = "short";
    }
}

laws::packed_set packed(const table& tensors) {
    laws::packed_set set;
    set.add("first", sf::dtype::u8, {3});
    std::set<std::string> names{"first"};
    std::uint64_t total_bytes = 0;
    for (const spelled_tensor& each : tensors) {
        std::uint64_t size_bytes = 0;
        if (sf::tensor_size(each.type, each.shape, size_bytes) != sf::size_verdict::fits ||
            size_bytes > most_bytes - total_bytes)
            continue;
        total_bytes += size_bytes;
        if (!names.insert(each.name).second) continue;
        // what gate and up must agree on is equal in all tensors of a size
        if (each.name.ends_with("g_idx")) {
            const std::vector<std::byte> same(static_cast<std::size_t>(size_bytes), std::byte{5});
            set.add(each.name, each.type, each.shape, same, 0);
        } else {
            set.add(each.name, each.type, each.shape, names.size() % 3 == 0 ? 1 : 0);
        }
    }
    return set;
}

std::vector<std::vector<std::byte>> fused(const sf::copy_plan& plan) {
    std::vector<std::vector<std::byte>> out;
    std::vector<std::span<std::byte>> buffers;
    for (const sf::plan_output& each : plan.outputs())
        out.emplace_back(static_cast<std::size_t>(each.size_bytes));
    for (auto& each : out) buffers.emplace_back(each);
    FUZZ_HOLD(sf::fuse(plan, buffers).has_value());
    return out;
}

/// Runs a plan by the library and by hand: from memory, by reading, at once and in modes. Returns
/// its outputs as a set.
laws::packed_set run(const sf::copy_plan& plan, laws::packed_set& set) {
    const laws::executed by_hand = laws::execute(plan, set);
    FUZZ_HOLD(by_hand.in_bounds);
    for (const auto& each : by_hand.times_written)
        for (const unsigned times : each) FUZZ_HOLD(times == 1);
    FUZZ_HOLD(fused(plan) == by_hand.outputs);
    set.resident = false;
    FUZZ_HOLD(fused(plan) == by_hand.outputs);
    set.resident = true;
    laws::packed_set out;
    std::set<std::string_view> names;
    for (std::size_t i = 0; i < plan.outputs().size(); ++i) {
        const sf::plan_output& each = plan.outputs()[i];
        FUZZ_HOLD(names.insert(each.name).second && each.name.ends_with(each.local_name));
        std::uint64_t size_bytes = 0;
        FUZZ_HOLD(sf::tensor_size(each.type, each.shape, size_bytes) == sf::size_verdict::fits &&
                  size_bytes == each.size_bytes);
        out.add(std::string{each.name}, each.type, {each.shape.begin(), each.shape.end()},
                by_hand.outputs[i]);
        std::vector<std::byte> modes(by_hand.outputs[i].size());
        const auto per_part_scales = sf::compare_scales(plan, i);
        FUZZ_HOLD(per_part_scales.has_value() &&
                  per_part_scales->differing <= per_part_scales->experts &&
                  (each.per_part_scales != 0 || per_part_scales->experts == 0));
        const std::size_t half = modes.size() / 2 + (i & 1);
        const auto whole = std::span<std::byte>{modes};
        const std::size_t cut = half < whole.size() ? half : whole.size();
        FUZZ_HOLD(sf::fuse_range(plan, i, 0, whole.first(cut)).has_value() &&
                  sf::fuse_range(plan, i, cut, whole.subspan(cut)).has_value());
        FUZZ_HOLD(modes == by_hand.outputs[i]);
        if (const auto view = sf::view(plan, each.local_name); view)
            FUZZ_HOLD(view->size_bytes() == modes.size() &&
                      (modes.empty() ||
                       std::memcmp(view->bytes().data(), modes.data(), modes.size()) == 0));
    }
    return out;
}

bool has_elements(const sf::copy_plan& plan) {
    for (const sf::plan_output& each : plan.outputs())
        if (each.size_bytes == 0) return false;
    return !plan.outputs().empty();
}

/// Checks that the inverse gives back the input tensors, byte for byte.
void hold_same(const sf::copy_plan& plan, const laws::packed_set& set,
               const laws::packed_set& back) {
    FUZZ_HOLD(back.size() == plan.source_tensors().size());
    for (const std::uint32_t i : plan.source_tensors()) {
        const auto name = set.spec(i).name;
        const auto was = set.bytes_of(name), is = back.bytes_of(name);
        FUZZ_HOLD(was.size() == is.size() &&
                  (was.empty() || std::memcmp(was.data(), is.data(), was.size()) == 0));
    }
}

/// A scale with one element fits blocks of 128 x 128 and also rows of 32, and the first kind cannot
/// be concatenated.
bool of_one_element(const sf::failure& why) { return why.code == sf::errc::splits_block; }

void plan_family(laws::packed_set& set, const sf::family_description& there,
                 const sf::family_description& back, bool unscaled,
                 const std::vector<sf::known_extent>& known) {
    const auto scopes = sf::experts_scopes::find(set, there);
    FUZZ_HOLD(scopes.has_value());
    for (std::size_t s = 0; s < scopes->size(); ++s) {
        const sf::experts_scope scope = (*scopes)[s];
        FUZZ_HOLD(scope.module < there.module_count() &&
                  (s < scopes->experts_count()) == (scope.module == 0));
        const auto plan = sf::plan(set, scope, there, sf::direction::forward,
                                   {.known_extents = known, .allow_missing_scales = unscaled});
        if (!plan) {
            FUZZ_HOLD(plan.error().message().size() > 0);
            continue;
        }
        laws::packed_set made = run(*plan, set);
        if (plan->source_form() != sf::scope_state::pending || !has_elements(*plan)) continue;
        const auto scopes_back = sf::experts_scopes::find(made, back);
        FUZZ_HOLD(scopes_back.has_value() && scopes_back->size() >= 1);
        if (scopes_back->size() != 1 || (*scopes_back)[0].form != sf::scope_state::pending)
            continue;
        const auto plan_back = sf::plan(made, (*scopes_back)[0], back, sf::direction::forward,
                                        {.destination_scope = scope.name,
                                         .known_extents = known,
                                         .allow_missing_scales = true});
        // The given extent may be needed only for a field of one form; then the inverse cannot
        // determine it.
        if (!plan_back && !known.empty()) continue;
        if (!plan_back && of_one_element(plan_back.error())) continue;
        FUZZ_HOLD(plan_back.has_value());
        hold_same(*plan, set, run(*plan_back, made));
    }
}

/// Per-expert tensors in any of the shipped fields and forms, planned to layouts with stacked
/// experts, and back.
void plan_quantised(std::uint8_t way, fuzz::reader& input) {
    static constexpr const sf::layout_description* layouts[] = {
        &sf::layouts::per_expert::description, &sf::layouts::gate_up_fused::description,
        &sf::layouts::linear_pair::description, &quantised_rows_in_turn::description,
        &quantised_up_first::description};
    const sf::layout_description& from = *layouts[way % std::size(layouts)];
    const std::string scope = "m.mlp.experts";
    table tensors = tensors_of(from, scope, input);
    sf::plan_options options;
    options.allow_missing_scales = true;
    const std::uint8_t cut = input.byte();
    if (cut % 4 == 1) {
        options.sliced_extent = "I";
        options.slice_ranks = 2 + cut / 4 % 3;
        options.slice_rank = cut / 16 % 4;
    } else if (cut % 4 == 2) {
        options.first_expert = cut / 4 % 4;
    }
    break_somewhere(tensors, input);
    laws::packed_set set = packed(tensors);
    const auto plan_of = [&](const laws::packed_set& of, const sf::layout_description& a,
                             const sf::layout_description& b, const sf::plan_options& with) {
        const auto members = sf::detail::tensors_under(of, scope);
        FUZZ_HOLD(members.has_value());
        return sf::detail::plan_members(of, members->view(), scope, a, b, with);
    };
    for (const sf::layout_description* const to : layouts) {
        const auto plan = plan_of(set, from, *to, options);
        if (!plan) {
            FUZZ_HOLD(plan.error().message().size() > 0);
            continue;
        }
        laws::packed_set made = run(*plan, set);
        if (cut % 4 == 1 || cut % 4 == 2 || !has_elements(*plan)) continue;
        const auto plan_back = plan_of(made, *to, from, {.allow_missing_scales = true});
        if (!plan_back && of_one_element(plan_back.error())) continue;
        FUZZ_HOLD(plan_back.has_value());
        hold_same(*plan, set, run(*plan_back, made));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::reader input{{reinterpret_cast<const char*>(data), size}};
    const std::uint8_t way = input.byte();
    const std::size_t families = sf::shipped_families::all.size();
    const std::size_t kinds = std::size(laws::all_kinds);
    if (way % 2 == 0) {
        const sf::family_description& known = sf::shipped_families::all[way / 4 % families];
        const sf::family_description family =
            known.in(way / 2 % 2 == 0 ? sf::direction::forward : sf::direction::inverse);
        std::vector<sf::known_extent> known_extents;
        const sf::module_description module = family.module_at(way % family.module_count());
        table tensors =
            tensors_of(*module.from, "model.layers.0." + laws::with_numbers(module.from_path),
                       input, &known_extents);
        if (input.byte() % 4 != 0) known_extents.clear();
        break_somewhere(tensors, input);
        laws::packed_set set = packed(tensors);
        // its own family and another one, in both directions; detection only sometimes, because it
        // tries every family
        const std::size_t other = tensors.size() + size;
        for (const sf::family_description* const each :
             {&known, &sf::shipped_families::all[other % families]}) {
            const sf::family_description inverse = each->in(sf::direction::inverse);
            plan_family(set, *each, inverse, way >= 128, known_extents);
            plan_family(set, inverse, *each, way >= 128, known_extents);
        }
        if (size % 4 != 0) return 0;
        for (const sf::direction to : {sf::direction::forward, sf::direction::inverse}) {
            const auto detected = sf::detect_family(set, to);
            FUZZ_HOLD(detected.has_value() || detected.error().code == sf::errc::unknown_family ||
                      detected.error().code == sf::errc::ambiguous_family);
        }
        return 0;
    }
    if (way % 4 == 1) {
        plan_quantised(way / 4, input);
        return 0;
    }
    const laws::kind from = laws::all_kinds[way / 4 % kinds];
    const std::string scope = "m.mlp.experts";
    table tensors = tensors_of(laws::description(from), scope, input);
    sf::plan_options options;
    if (way >= 128) {
        options.first_expert = input.byte() % 8;
        options.end_expert = input.byte() % 8;
        if (input.byte() % 2 == 0) options.sliced_extent = "I";
        options.slice_first = extent(input.byte());
        options.slice_end = extent(input.byte());
        options.allow_missing_scales = input.byte() % 2 == 0;
    }
    break_somewhere(tensors, input);
    laws::packed_set set = packed(tensors);
    for (std::size_t k = 0; k < 3; ++k) {
        const laws::kind to = laws::all_kinds[(size + k) % kinds];
        const auto plan = laws::plan_kinds(set, scope, from, to, options);
        if (!plan) {
            FUZZ_HOLD(plan.error().message().size() > 0);
            continue;
        }
        laws::packed_set made = run(*plan, set);
        if (way >= 128 || !has_elements(*plan)) continue;
        // for experts in rows with packed integers, only the number of experts determines the row
        // length
        const sf::known_extent experts{"E", plan->expert_count()};
        const auto plan_back =
            laws::plan_kinds(made, scope, to, from, {.known_extents = {&experts, 1}});
        if (!plan_back && of_one_element(plan_back.error())) continue;
        FUZZ_HOLD(plan_back.has_value());
        hold_same(*plan, set, run(*plan_back, made));
    }
    return 0;
}
