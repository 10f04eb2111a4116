// Prints plans as text: all families in both directions, all pairs of layouts and engines, many
// shapes, fields, forms and slices, and sets that are broken on purpose. The output is
// deterministic, so two versions of the planner make the same plans if they print the same text.
//   plan_dump            prints the text
//   plan_dump --hashes   prints one line per group: its name, the number of plans and failures, and
//                        the FNV-1a hash of its text
//   plan_dump --check F  like --hashes for a few shapes only; fails and prints the line if a line
//   is
//                        not in file F. After an intended change, write the output of --brief to F.
//   plan_dump --brief    prints what --check compares
// No tensor here has bytes: planning reads only names, dtypes and shapes.
#include <safefuse/detect/detect.hpp>
#include <safefuse/models/engines.hpp>
#include <safefuse/models/standard.hpp>
#include <safefuse/plan/plan.hpp>
#include <safefuse/plan/scopes.hpp>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

namespace sf = safefuse;

namespace {

using u64 = std::uint64_t;

// ------------------------------------------------------------------------------------------ sets

struct entry {
    std::string name;
    sf::dtype type;
    std::vector<u64> shape;
};

/// Names, dtypes and shapes; the bytes do not exist.
class named_shapes {
public:
    explicit named_shapes(const std::vector<entry>& entries) : entries_{entries} {
        u64 at[2] = {8, 16};
        for (std::size_t i = 0; i < entries_.size(); ++i) {
            u64 size_bytes = 0;
            if (sf::tensor_size(entries_[i].type, entries_[i].shape, size_bytes) !=
                sf::size_verdict::fits)
                size_bytes = 1;
            const std::uint32_t source = i % 5 == 3 ? 1 : 0;
            places_.push_back({source, at[source], size_bytes});
            at[source] += size_bytes;
        }
    }
    std::size_t size() const noexcept { return entries_.size(); }
    sf::tensor_spec spec(std::size_t i) const noexcept {
        return {entries_[i].name, entries_[i].type, entries_[i].shape};
    }
    sf::tensor_location place(std::size_t i) const noexcept { return places_[i]; }
    std::string_view source_name(std::uint32_t source) const noexcept {
        return source == 0 ? "a.safetensors" : "b.safetensors";
    }
    sf::span<const std::byte> source_bytes(std::uint32_t) const noexcept { return {}; }
    sf::result<void> read(std::uint32_t, u64, sf::span<std::byte>) const noexcept {
        return sf::failure{.code = sf::errc::io_error};
    }

    /// Gives a tensor a size in bytes that differs from its shape's.
    void resize(std::size_t i, u64 size_bytes) { places_[i].size_bytes = size_bytes; }

private:
    std::vector<entry> entries_;
    std::vector<sf::tensor_location> places_;
};

/// Whether only a few shapes are planned.
bool is_brief = false;

/// Numbers that are the same on every machine.
class lottery {
public:
    explicit lottery(u64 seed) : state_{seed * 0x9E37'79B9'7F4A'7C15u + 1} {}
    u64 next(u64 below) {
        state_ = state_ * 6364136223846793005u + 1442695040888963407u;
        return (state_ >> 33) % below;
    }

private:
    u64 state_;
};

struct sizes {
    u64 e, i, h, other;
};
constexpr sizes shapes[] = {{2, 4, 6, 2},
                            {3, 128, 256, 4},
                            {1, 256, 128, 2},
                            {4, 256, 256, 8},
                            {5, 256, 128, 3},
                            {2, 192, 64, 2},
                            {2, 130, 100, 2},
                            {1, 1, 1, 1},
                            {3, 512, 1024, 16},
                            {0, 4, 4, 2},
                            {2, 0, 4, 2},
                            {130, 64, 32, 2},
                            {2, u64{1} << 31, u64{1} << 31, 2}};

bool is_in_brief(const sizes& x) { return x.e == 4 || (x.e == 2 && x.i == 4); }

std::vector<sf::known_extent> extents_of(const sf::layout_description& layout, const sizes& x) {
    sf::layout_args extents;
    for (const sf::tensor_description& each : layout.tensors) {
        const sf::mapping placed = each.place(extents);
        for (std::size_t p = 0; p < placed.part_count; ++p) {
            const sf::part_mapping& part = placed.parts[p];
            if (!part.experts.empty()) static_cast<void>(extents.dim(part.experts));
            if (!part.after.empty()) static_cast<void>(extents.dim(part.after));
            for (std::size_t a = 0; a < part.part_axes; ++a)
                static_cast<void>(extents.dim(part.extents[a]));
        }
    }
    std::vector<sf::known_extent> out;
    for (std::size_t s = 0; s < extents.dim_count; ++s) {
        const std::string_view name = extents.names[s];
        out.push_back({name, name == "E"   ? x.e
                             : name == "I" ? x.i
                             : name == "H" ? x.h
                             : name == "V" ? x.e
                                           : x.other * (s + 1)});
    }
    return out;
}

/// The tensors of a layout in the chosen fields (one bit each). Each field has form `form` of its
/// forms.
std::vector<entry> tensors_of(const sf::layout_description& layout, const std::string& scope,
                              const sizes& size, sf::dtype type, std::uint32_t fields,
                              std::size_t form) {
    sf::layout_args extents;
    for (const sf::known_extent& each : extents_of(layout, size))
        extents.values[extents.dim(each.name)] = each.value;
    std::vector<entry> out;
    for (const sf::tensor_description& each : layout.tensors)
        for (std::size_t f = 0; f < layout.fields.size(); ++f) {
            if ((fields >> f & 1) == 0) continue;
            const sf::field_description& field = *layout.fields[f].field;
            sf::layout_args x = extents;
            x.field = &field.forms[form % field.forms.size()];
            const sf::mapping placed = each.place(x);
            std::vector<u64> shape;
            for (std::size_t a = 0; a < placed.axis_count; ++a)
                if (placed.axes[a].present) shape.push_back(placed.axes[a].extent);
            const u64 first =
                placed.parts[0].after.empty() ? 0 : extents.value(placed.parts[0].after);
            const u64 count = each.per_expert() ? extents.value(placed.parts[0].experts) : 1;
            for (u64 e = 0; e < count && out.size() < 2000; ++e) {
                sf::text name{scope + "."};
                static_cast<void>(
                    sf::detail::spell(name, each.name, first + e, layout.fields[f].suffix));
                out.push_back({std::string{name.view()},
                               field.role == sf::field_role::value    ? type
                               : field.role == sf::field_role::addend ? sf::dtype::bf16
                                                                      : sf::dtype::f32,
                               shape});
            }
        }
    return out;
}

/// Breaks a set in one to three ways.
void break_somewhere(std::vector<entry>& tensors, lottery& by) {
    constexpr u64 odd[] = {0, 1, 2, 3, 5, 64, 127, 129, u64{1} << 32, u64{1} << 62, ~u64{0}};
    for (u64 steps = 1 + by.next(3); steps > 0 && !tensors.empty(); --steps) {
        const std::size_t i = by.next(tensors.size());
        entry& each = tensors[i];
        const u64 value = odd[by.next(std::size(odd))];
        switch (by.next(10)) {
        case 0: tensors.erase(tensors.begin() + static_cast<std::ptrdiff_t>(i)); break;
        case 1:
            if (!each.shape.empty()) each.shape[by.next(each.shape.size())] = value;
            break;
        case 2: each.type = static_cast<sf::dtype>(by.next(sf::dtype_count)); break;
        case 3: {  // one draw after the other: compilers evaluate arguments in orders of their own
            const char drawn = "7._xw"[by.next(5)];
            each.name.insert(by.next(each.name.size() + 1), 1, drawn);
            break;
        }
        case 4: each.name[by.next(each.name.size())] = "0129._x"[by.next(7)]; break;
        case 5:
            each.shape.insert(
                each.shape.begin() + static_cast<std::ptrdiff_t>(by.next(each.shape.size() + 1)),
                value);
            break;
        case 6:
            if (!each.shape.empty()) each.shape.pop_back();
            break;
        case 7: tensors.push_back(each); break;
        case 8:
            for (entry& other : tensors) other.type = each.type;
            break;
        default: std::swap(each, tensors[by.next(tensors.size())]);
        }
    }
}

// ---------------------------------------------------------------------------------------- output

class report {
public:
    /// Prints hashes instead of text. If `known` is not null, it prints only those that are not in
    /// it.
    explicit report(bool hashes, const std::string* known = nullptr)
        : hashes_{hashes}, known_{known} {}

    bool has_news() const { return has_news_; }

    void begin(const std::string& group) {
        end();
        group_ = group;
        hash_ = 14695981039346656037u;
        plans_ = failures_ = 0;
        line("## " + group);
    }
    void end() {
        if (!group_.empty() && hashes_) {
            char line[256];
            std::snprintf(line, sizeof line, "%s %llu plans %llu failures %016llx\n",
                          group_.c_str(), static_cast<unsigned long long>(plans_),
                          static_cast<unsigned long long>(failures_),
                          static_cast<unsigned long long>(hash_));
            const bool is_known = known_ != nullptr && known_->find(line) != std::string::npos;
            has_news_ = has_news_ || !is_known;
            if (!is_known) std::fputs(line, stdout);
        }
        group_.clear();
    }
    void line(const std::string& text) {
        for (const char c : text) hash_ = (hash_ ^ static_cast<unsigned char>(c)) * 1099511628211u;
        hash_ = (hash_ ^ '\n') * 1099511628211u;
        if (!hashes_) std::printf("%s\n", text.c_str());
    }

    void plan(const std::string& what, const sf::result<sf::copy_plan>& made) {
        line("# " + what);
        made ? print(*made) : print(made.error());
    }

private:
    static std::string quoted(std::string_view text) { return "'" + std::string{text} + "'"; }

    void print(const sf::failure& why) {
        ++failures_;
        line("failure " + std::to_string(static_cast<int>(why.code)) + " " +
             quoted(why.file.view()) + quoted(why.tensor.view()) + quoted(why.scope.view()) +
             quoted(why.detail.view()) + " " + std::to_string(why.expert) + " " +
             std::to_string(why.offset) + " " + std::to_string(why.expected) + " " +
             std::to_string(why.actual) + " " + std::to_string(why.os_error) + " " +
             std::string{why.message().view()});
    }
    void print(const sf::copy_plan& plan) {
        ++plans_;
        std::string head = "plan " + quoted(plan.scope()) + " form " +
                           std::to_string(static_cast<int>(plan.source_form())) + " experts " +
                           std::to_string(plan.expert_count()) + " bytes " +
                           std::to_string(plan.size_bytes()) + " from";
        for (const std::uint32_t each : plan.source_tensors()) head += " " + std::to_string(each);
        line(head);
        for (const sf::plan_output& each : plan.outputs()) {
            std::string text = "  output " + quoted(each.name) + quoted(each.local_name) + " " +
                               std::string{sf::name(each.type)} + " [";
            for (const u64 extent : each.shape) text += std::to_string(extent) + " ";
            line(text + "] " + std::to_string(each.size_bytes) + " " +
                 std::to_string(each.per_part_scales));
        }
        for (const sf::copy_block& each : plan.blocks()) print("  copy", each);
        for (const sf::copy_block& each : plan.equal_blocks()) print("  equal", each);
    }
    void print(const char* what, const sf::copy_block& block) {
        std::string text = what;
        for (const u64 number : {u64{block.source}, u64{block.output}, block.source_offset,
                                 block.destination_offset, block.run_bytes, u64{block.loop_count}})
            text += " " + std::to_string(number);
        for (const sf::copy_loop& loop : block.loops)
            if (loop.extent != 0)
                text += " " + std::to_string(loop.extent) + ":" +
                        std::to_string(loop.source_stride) + ":" +
                        std::to_string(loop.destination_stride);
        line(text);
    }

    bool hashes_;
    const std::string* known_;
    bool has_news_ = false;
    std::string group_;
    u64 hash_ = 0;
    u64 plans_ = 0;
    u64 failures_ = 0;
};

// ----------------------------------------------------------------------------------------- plans

struct cut {
    std::string name;
    sf::plan_options options;
};
std::vector<cut> cuts(bool unscaled) {
    std::vector<cut> out;
    const auto add = [&](std::string name, auto change) {
        sf::plan_options options;
        options.allow_missing_scales = unscaled;
        change(options);
        out.push_back({std::move(name), options});
    };
    add("whole", [](sf::plan_options&) {});
    add("experts 1:", [](sf::plan_options& o) { o.first_expert = 1; });
    add("experts 1:2 to elsewhere", [](sf::plan_options& o) {
        o.first_expert = 1;
        o.end_expert = 2;
        o.destination_scope = "elsewhere.experts";
    });
    add("experts 2:1", [](sf::plan_options& o) {
        o.first_expert = 2;
        o.end_expert = 1;
    });
    for (const std::string_view extent : {"I", "H", "I H", "unknown"})
        for (const u64 ranks : {u64{2}, u64{4}})
            add("rank 1 of " + std::to_string(ranks) + " of " + std::string{extent},
                [&](sf::plan_options& o) {
                    o.sliced_extent = extent;
                    o.slice_rank = 1;
                    o.slice_ranks = ranks;
                });
    add("I 2:", [](sf::plan_options& o) {
        o.sliced_extent = "I";
        o.slice_first = 2;
    });
    add("I 0:128", [](sf::plan_options& o) {
        o.sliced_extent = "I";
        o.slice_end = 128;
    });
    add("I 1:3, experts :1", [](sf::plan_options& o) {
        o.sliced_extent = "I";
        o.slice_first = 1;
        o.slice_end = 3;
        o.end_expert = 1;
    });
    add("I 3:1", [](sf::plan_options& o) {
        o.sliced_extent = "I";
        o.slice_first = 3;
        o.slice_end = 1;
    });
    return out;
}

void dump_layouts(report& out, const named_shapes& set, std::string_view scope,
                  const sf::layout_description& from, const sf::layout_description& to,
                  const std::string& what, const sf::plan_options& options) {
    out.plan(what, sf::plan(set, scope, from, to, options));
}

void dump_scopes(report& out, const named_shapes& set, const sf::family_description& family,
                 const std::string& what, const sf::plan_options& options) {
    const auto scopes = sf::experts_scopes::find(set, family);
    if (!scopes) return;
    for (std::size_t s = 0; s < scopes->size(); ++s)
        out.plan(what + " scope " + std::to_string(s),
                 sf::plan(set, (*scopes)[s], family, sf::direction::forward, options));
    if (scopes->size() != 0)
        out.plan(what + " by name", sf::plan(set, (*scopes)[scopes->size() - 1].name, family,
                                             sf::direction::forward, options));
}

std::string text_of(const sizes& x) {
    return "E" + std::to_string(x.e) + " I" + std::to_string(x.i) + " H" + std::to_string(x.h);
}

/// Which fields of a layout, with which dtype of the values, in which of their forms.
struct stored_fields {
    const char* name;
    sf::dtype type;
    std::vector<std::string_view> fields;
    std::size_t forms;
};
const std::vector<stored_fields>& all_fields() {
    static const std::vector<stored_fields> all{
        {"weights", sf::dtype::bf16, {"weight"}, 1},
        {"weights and biases", sf::dtype::f32, {"weight", "bias"}, 1},
        {"unscaled codes", sf::dtype::f8_e4m3, {"weight"}, 1},
        {"nibbles", sf::dtype::f4, {"weight"}, 1},
        {"block scales", sf::dtype::f8_e4m3, {"weight", "weight_scale_inv"}, 2},
        {"scales", sf::dtype::i8, {"weight", "weight_scale", "input_scale"}, 10},
        {"modelopt", sf::dtype::u8, {"weight", "weight_scale", "weight_scale_2", "input_scale"}, 4},
        {"packed",
         sf::dtype::i32,
         {"weight_packed", "weight_scale", "weight_global_scale", "input_global_scale",
          "weight_shape", "weight_zero_point", "weight_g_idx"},
         8},
        {"gptq", sf::dtype::i32, {"qweight", "qzeros", "scales", "g_idx"}, 8},
        {"mxfp4", sf::dtype::u8, {"mxfp4_blocks", "mxfp4_scales", "bias"}, 1},
        {"scales alone", sf::dtype::f32, {"weight_scale"}, 2},
    };
    return all;
}
std::uint32_t bits_of(const sf::layout_description& layout,
                      const std::vector<std::string_view>& names) {
    std::uint32_t bits = 0;
    for (std::size_t f = 0; f < layout.fields.size(); ++f)
        for (const std::string_view name : names)
            if (layout.fields[f].field->name == name) bits |= 1u << f;
    return bits;
}

void dump_family(report& out, const sf::family_description& family,
                 const sf::family_description& other) {
    for (std::size_t m = 0; m < family.module_count(); ++m) {
        const sf::module_description module = family.module_at(m);
        const std::string scope = "model.layers.0." + std::string{module.from_path};
        std::size_t number = 0;
        for (const sizes& size : shapes)
            for (const stored_fields& stored : all_fields()) {
                if (is_brief && !is_in_brief(size)) continue;
                const std::uint32_t bits = bits_of(*module.from, stored.fields);
                for (std::size_t form = 0; bits != 0 && form < (number % 3 == 0 ? stored.forms : 1);
                     ++form) {
                    ++number;
                    const std::string what =
                        text_of(size) + " " + stored.name + " " + std::to_string(form) + " ";
                    std::vector<entry> tensors =
                        tensors_of(*module.from, scope, size, stored.type, bits, form);
                    const named_shapes set{tensors};
                    const std::vector<sf::known_extent> known = extents_of(*module.from, size);
                    const bool unscaled = number % 2 == 0;
                    const auto all = cuts(unscaled);
                    for (std::size_t c = 0; c < all.size(); ++c) {
                        if (size.e > 100 && c % 4 != 0) continue;
                        sf::plan_options options = all[c].options;
                        if (number % 3 != 1) options.known_extents = known;
                        dump_scopes(out, set, family, what + all[c].name, options);
                    }
                    dump_scopes(out, set, other, what + "the other way", {.known_extents = known});
                    if (size.e > 100) continue;
                    for (u64 seed = 0; seed < 4; ++seed) {
                        std::vector<entry> broken = tensors;
                        lottery by{seed + 16 * number};
                        break_somewhere(broken, by);
                        named_shapes hostile{broken};
                        if (seed == 3 && hostile.size() != 0)
                            hostile.resize(by.next(hostile.size()), 3);
                        dump_scopes(out, hostile, family, what + "broken " + std::to_string(seed),
                                    {.known_extents = known, .allow_missing_scales = unscaled});
                    }
                }
            }
    }
}

using rows_in_turn = sf::layout<
    sf::parameter_suffixes,
    sf::tensor<"gate_up_proj", sf::stack<sf::interleave<0, 2, sf::layouts::gate, sf::layouts::up>>>,
    sf::tensor<"down_proj", sf::stack<sf::layouts::down>>>;
using columns_in_turn = sf::layout<
    sf::parameter_suffixes,
    sf::tensor<
        "gate_up_proj",
        sf::transpose<1, 2, sf::stack<sf::interleave<0, 1, sf::layouts::gate, sf::layouts::up>>>>,
    sf::tensor<"down_proj", sf::transpose<1, 2, sf::stack<sf::layouts::down>>>>;
using turns_of_turns = sf::layout<
    sf::module_suffixes,
    sf::tensor<"{i}.all",
               sf::interleave<0, 4, sf::interleave<0, 2, sf::layouts::gate, sf::layouts::up>,
                              sf::concat<0, sf::transpose<0, 1, sf::layouts::down>,
                                         sf::transpose<0, 1, sf::part<"extra", "H", "I">>>>>>;
using flat_stacks = sf::layout<
    sf::parameter_suffixes,
    sf::tensor<"w13", sf::flatten<0, sf::stack<sf::concat<0, sf::layouts::gate, sf::layouts::up>>>>,
    sf::tensor<"w2", sf::flatten<1, sf::stack<sf::layouts::down>>>>;

struct named_layout {
    std::string name;
    const sf::layout_description* layout;
};
std::vector<named_layout> all_layouts() {
    std::vector<named_layout> out{{"per_expert", &sf::layouts::per_expert::description},
                                  {"gate_up_fused", &sf::layouts::gate_up_fused::description},
                                  {"linear_pair", &sf::layouts::linear_pair::description},
                                  {"flat_experts", &sf::layouts::flat_experts::description},
                                  {"rows_in_turn", &rows_in_turn::description},
                                  {"columns_in_turn", &columns_in_turn::description},
                                  {"turns_of_turns", &turns_of_turns::description},
                                  {"flat_stacks", &flat_stacks::description}};
    for (const sf::engine_entry& each : sf::shipped_engines::all)
        out.push_back({std::string{each.name}, each.layout});
    return out;
}

void dump_pair(report& out, const sf::layout_description& from, const sf::layout_description& to) {
    const std::string scope = "m.experts";
    std::size_t number = 0;
    for (const sizes& size : shapes)
        for (const stored_fields& stored : all_fields()) {
            if (is_brief && !is_in_brief(size)) continue;
            const std::uint32_t bits = bits_of(from, stored.fields);
            if (size.e > 100 && number % 3 != 0) continue;
            for (std::size_t form = 0; bits != 0 && form < stored.forms; ++form) {
                ++number;
                const std::string what =
                    text_of(size) + " " + stored.name + " " + std::to_string(form) + " ";
                std::vector<entry> tensors = tensors_of(from, scope, size, stored.type, bits, form);
                tensors.push_back({"m.norm.weight", sf::dtype::bf16, {3}});
                const named_shapes set{tensors};
                const std::vector<sf::known_extent> known = extents_of(from, size);
                const auto all = cuts(true);
                for (std::size_t c = form % 3; c < all.size(); c += form == 0 ? 1 : 3) {
                    if (size.e > 100 && c % 4 != 0) continue;
                    sf::plan_options options = all[c].options;
                    if (number % 3 != 1) options.known_extents = known;
                    dump_layouts(out, set, scope, from, to, what + all[c].name, options);
                }
                lottery by{number};
                break_somewhere(tensors, by);
                if (size.e < 100)
                    dump_layouts(out, named_shapes{tensors}, scope, from, to, what + "broken",
                                 {.allow_missing_scales = number % 2 == 0});
            }
        }
}

}  // namespace

int main(int argc, char** argv) {
    const std::string_view how = argc > 1 ? argv[1] : "";
    is_brief = how == "--check" || how == "--brief";
    std::string known;
    if (how == "--check" && argc > 2) {
        std::ifstream file{argv[2], std::ios::binary};
        known.assign(std::istreambuf_iterator<char>{file}, {});
    }
    report out{!how.empty(), how == "--check" ? &known : nullptr};
    for (const sf::family_description& each : sf::shipped_families::all) {
        const sf::family_description inverse = each.in(sf::direction::inverse);
        out.begin("fuse_" + std::string{each.name});
        dump_family(out, each, inverse);
        out.begin("unfuse_" + std::string{each.name});
        dump_family(out, inverse, each);
    }
    for (const named_layout& from : all_layouts())
        for (const named_layout& to : all_layouts()) {
            out.begin(from.name + "_to_" + to.name);
            dump_pair(out, *from.layout, *to.layout);
        }
    out.end();
    return how == "--check" && out.has_news() ? 1 : 0;
}
