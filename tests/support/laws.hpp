// What the layouts mean, written again without the algebra as nested loops over experts, rows and
// columns. Also a tensor set that counts the calls to it. The laws of layout, plan and fuse are
// tested against these.
#ifndef SAFEFUSE_TESTS_LAWS_HPP
#define SAFEFUSE_TESTS_LAWS_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <safefuse/layout/layout.hpp>
#include <safefuse/models/standard.hpp>
#include <safefuse/plan/plan.hpp>
#include <safefuse/tensor/tensor_set.hpp>

namespace laws {

namespace sf = safefuse;

/// A module's path with each {i} replaced by a number.
inline std::string with_numbers(std::string_view path) {
    std::string out{path};
    for (auto at = out.find("{i}"); at != std::string::npos; at = out.find("{i}"))
        out.replace(at, 3, "7");
    return out;
}
using u64 = std::uint64_t;

// ------------------------------------------------------------------------------------------
// tensor sets

/// Tensors packed into sources one after the other. It counts every call, and every byte that is
/// read.
class packed_set {
public:
    bool resident = true;
    mutable u64 spec_calls = 0;
    mutable u64 read_calls = 0;
    mutable u64 read_bytes = 0;
    mutable std::vector<std::vector<unsigned>> times_read;  ///< by source and byte

    void add(std::string name, sf::dtype type, std::vector<u64> shape,
             std::span<const std::byte> bytes, std::uint32_t source = 0) {
        if (source >= sources_.size()) {
            sources_.resize(source + 1);
            times_read.resize(source + 1);
        }
        std::vector<std::byte>& into = sources_[source];
        entries_.push_back(
            {std::move(name), type, std::move(shape), {source, into.size(), bytes.size()}});
        into.insert(into.end(), bytes.begin(), bytes.end());
        times_read[source].resize(into.size());
    }
    /// Adds a tensor filled with bytes that depend on its name.
    void add(std::string name, sf::dtype type, std::vector<u64> shape, std::uint32_t source = 0) {
        u64 size_bytes = 0;
        static_cast<void>(sf::tensor_size(type, shape, size_bytes));
        std::vector<std::byte> bytes(static_cast<std::size_t>(size_bytes));
        std::uint32_t state = 2166136261u;
        for (const char c : name) state = (state ^ static_cast<unsigned char>(c)) * 16777619u;
        for (std::byte& b : bytes) {
            state = state * 1664525u + 1013904223u;
            b = static_cast<std::byte>(state >> 24);
        }
        add(std::move(name), type, std::move(shape), bytes, source);
    }
    void remove(std::string_view name) {
        std::erase_if(entries_, [&](const entry& each) { return each.name == name; });
    }
    void rename(std::string_view name, std::string_view to) {
        for (entry& each : entries_)
            if (each.name == name) each.name = to;
    }
    void retype(std::string_view name, sf::dtype type, std::vector<u64> shape) {
        for (entry& each : entries_)
            if (each.name == name) {
                each.type = type;
                each.shape = shape;
            }
    }
    std::span<const std::byte> bytes_of(std::string_view name) const {
        for (const entry& each : entries_)
            if (each.name == name) return bytes(each.place);
        return {};
    }

    std::size_t size() const noexcept { return entries_.size(); }
    sf::tensor_spec spec(std::size_t i) const noexcept {
        const std::lock_guard lock{counting_};  // several threads may use a set
        ++spec_calls;
        return {entries_[i].name, entries_[i].type, entries_[i].shape};
    }
    sf::tensor_location place(std::size_t i) const noexcept { return entries_[i].place; }
    std::string_view source_name(std::uint32_t source) const noexcept {
        return source == 0 ? "first.safetensors" : "other.safetensors";
    }
    std::span<const std::byte> source_bytes(std::uint32_t source) const noexcept {
        return resident ? std::span<const std::byte>{sources_[source]}
                        : std::span<const std::byte>{};
    }
    std::span<const std::byte> held_bytes(std::uint32_t source) const noexcept {
        return sources_[source];
    }
    sf::result<void> read(std::uint32_t source, u64 offset,
                          std::span<std::byte> out) const noexcept {
        const std::lock_guard lock{counting_};
        ++read_calls;
        read_bytes += out.size();
        for (std::size_t i = 0; i < out.size() && offset + i < times_read[source].size(); ++i)
            ++times_read[source][offset + i];
        return sf::memory_source{sources_[source]}.read(offset, out);
    }

private:
    static inline std::mutex counting_;
    struct entry {
        std::string name;
        sf::dtype type;
        std::vector<u64> shape;
        sf::tensor_location place;
    };
    std::span<const std::byte> bytes(const sf::tensor_location& at) const {
        return std::span<const std::byte>{sources_[at.source]}.subspan(
            static_cast<std::size_t>(at.offset), static_cast<std::size_t>(at.size_bytes));
    }

    std::vector<entry> entries_;
    std::vector<std::vector<std::byte>> sources_;
};

static_assert(sf::tensor_set<packed_set>);

// ------------------------------------------------------------------------------------------
// layouts under test

using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::up;

/// One factor for a whole matrix.
using input_scale = sf::field<"input_scale", sf::field_role::scale>;

using modules = sf::suffixes<sf::suffix<sf::weight, ".weight">, sf::suffix<sf::bias, ".bias">,
                             sf::suffix<sf::weight_scale_inv, ".weight_scale_inv">,
                             sf::suffix<input_scale, ".input_scale">>;
using parameters = sf::suffixes<sf::suffix<sf::weight, "">, sf::suffix<sf::bias, "_bias">,
                                sf::suffix<sf::weight_scale_inv, "_scale_inv">,
                                sf::suffix<input_scale, "_input_scale">>;

namespace layouts {

using per_expert = sf::layout<modules, sf::tensor<"{i}.gate_proj", gate>,
                              sf::tensor<"{i}.up_proj", up>, sf::tensor<"{i}.down_proj", down>>;
using gate_up =
    sf::layout<parameters, sf::tensor<"gate_up_proj", sf::stack<sf::concat<0, gate, up>>>,
               sf::tensor<"down_proj", sf::stack<down>>>;
using up_gate =
    sf::layout<parameters, sf::tensor<"w3_w1_weight", sf::stack<sf::concat<0, up, gate>>>,
               sf::tensor<"w2_weight", sf::stack<down>>>;
using stacks =
    sf::layout<modules, sf::tensor<"gate_proj", sf::stack<gate>>,
               sf::tensor<"up_proj", sf::stack<up>>, sf::tensor<"down_proj", sf::stack<down>>>;
template <u64 Group>
using rows_in_turn =
    sf::layout<parameters,
               sf::tensor<"gate_up_proj", sf::stack<sf::interleave<0, Group, gate, up>>>,
               sf::tensor<"down_proj", sf::stack<down>>>;
using transposed =
    sf::layout<parameters,
               sf::tensor<"gate_up_proj", sf::stack<sf::transpose<0, 1, sf::concat<0, gate, up>>>>,
               sf::tensor<"down_proj", sf::stack<sf::transpose<0, 1, down>>>>;
using columns_in_turn = sf::layout<
    parameters,
    sf::tensor<"gate_up_proj", sf::transpose<1, 2, sf::stack<sf::interleave<0, 1, gate, up>>>>,
    sf::tensor<"down_proj", sf::transpose<1, 2, sf::stack<down>>>>;
using flat = sf::layout<parameters, sf::tensor<"w1", sf::flatten<0, sf::stack<gate>>>,
                        sf::tensor<"v1", sf::flatten<0, sf::stack<up>>>,
                        sf::tensor<"w2", sf::flatten<0, sf::stack<down>>>>;

}  // namespace layouts

enum class kind {
    per_expert,
    gate_up,
    up_gate,
    stacks,
    rows_1,
    rows_2,
    rows_64,
    transposed,
    columns_in_turn,
    flat
};
inline constexpr kind all_kinds[] = {
    kind::per_expert, kind::gate_up, kind::up_gate,    kind::stacks,          kind::rows_1,
    kind::rows_2,     kind::rows_64, kind::transposed, kind::columns_in_turn, kind::flat};

inline const sf::layout_description& description(kind of) {
    switch (of) {
    case kind::per_expert: return layouts::per_expert::description;
    case kind::gate_up: return layouts::gate_up::description;
    case kind::up_gate: return layouts::up_gate::description;
    case kind::stacks: return layouts::stacks::description;
    case kind::rows_1: return layouts::rows_in_turn<1>::description;
    case kind::rows_2: return layouts::rows_in_turn<2>::description;
    case kind::rows_64: return layouts::rows_in_turn<64>::description;
    case kind::transposed: return layouts::transposed::description;
    case kind::columns_in_turn: return layouts::columns_in_turn::description;
    case kind::flat: break;
    }
    return layouts::flat::description;
}
inline std::string_view spelled(kind of) {
    constexpr std::string_view names[] = {"per_expert",      "gate_up", "up_gate", "stacks",
                                          "rows_1",          "rows_2",  "rows_64", "transposed",
                                          "columns_in_turn", "flat"};
    return names[static_cast<std::size_t>(of)];
}

enum class field { weight, bias, scale, scalar };

// ------------------------------------------------------------------------------------------
// the obvious implementation

/// The stored elements: experts [first_expert, end_expert), rows [i_first, i_end) of gate and up,
/// all of H.
struct experts {
    u64 first_expert = 0, end_expert = 1;
    u64 i_first = 0, i_end = 1;
    u64 h = 1;
    sf::dtype type = sf::dtype::bf16;
    std::vector<field> fields{field::weight};

    u64 e() const { return end_expert - first_expert; }
    u64 i() const { return i_end - i_first; }
    bool has(field which) const {
        for (const field each : fields)
            if (each == which) return true;
        return false;
    }
    sf::dtype type_of(field which) const {
        if (which == field::weight) return type;
        if (which == field::bias)
            return sf::is_code(type) || type == sf::dtype::u8 ? sf::dtype::bf16 : type;
        return sf::dtype::f32;
    }
};

/// One stored element; no two elements are equal.
struct element {
    field of;
    int part;  // 0 gate, 1 up, 2 down
    u64 expert, row, column;
    auto operator<=>(const element&) const = default;

    u64 value() const {
        u64 x = 0x9e3779b97f4a7c15u;
        for (const u64 each : {static_cast<u64>(of), static_cast<u64>(part), expert, row, column}) {
            x ^= each + 0x9e3779b97f4a7c15u + (x << 6) + (x >> 2);
            x *= 0xbf58476d1ce4e5b9u;
            x ^= x >> 29;
        }
        return x;
    }
};

struct stored_tensor {
    std::string name;
    field of;
    std::vector<u64> shape;
    std::vector<element> elements;
};

struct shown_extent {
    u64 extent;
    bool shown;
};

inline std::vector<stored_tensor> stored(kind layout, const experts& x) {
    std::vector<stored_tensor> out;
    for (const field f : x.fields) {
        const u64 block = f == field::scale ? 128 : 1;
        const bool has_rows = f != field::scalar;  // for gate and up: I; for down: H
        // for gate and up: H; for down: I
        const bool has_columns = f == field::weight || f == field::scale;
        const u64 first_i = x.i_first / block;
        const u64 i_blocks = (x.i() + block - 1) / block, h_blocks = (x.h + block - 1) / block;
        const u64 E = x.e();
        // gate and up: [GI, GH]
        const u64 GI = has_rows ? i_blocks : 1, GH = has_columns ? h_blocks : 1;
        const u64 DH = has_rows ? h_blocks : 1, DI = has_columns ? i_blocks : 1;  // down: [DH, DI]
        const auto gate_at = [&](u64 e, u64 i, u64 h) {
            return element{f, 0, x.first_expert + e, has_rows ? first_i + i : 0, h};
        };
        const auto up_at = [&](u64 e, u64 i, u64 h) {
            return element{f, 1, x.first_expert + e, has_rows ? first_i + i : 0, h};
        };
        const auto down_at = [&](u64 e, u64 h, u64 i) {
            return element{f, 2, x.first_expert + e, h, has_columns ? first_i + i : 0};
        };
        constexpr std::string_view dotted[] = {".weight", ".bias", ".weight_scale_inv",
                                               ".input_scale"};
        constexpr std::string_view plain[] = {"", "_bias", "_scale_inv", "_input_scale"};
        const bool module_suffixes = layout == kind::per_expert || layout == kind::stacks;
        const std::string suffix{(module_suffixes ? dotted : plain)[static_cast<std::size_t>(f)]};
        const auto add = [&](std::string name,
                             std::vector<shown_extent> extents) -> std::vector<element>& {
            stored_tensor made{name + suffix, f, {}, {}};
            u64 count = 1;
            for (const auto& each : extents) {
                count *= each.extent;
                if (each.shown) made.shape.push_back(each.extent);
            }
            made.elements.resize(static_cast<std::size_t>(count));
            out.push_back(std::move(made));
            return out.back().elements;
        };
        const auto add_down = [&](const std::string& name) {
            auto& to = add(name, {{E, true}, {DH, has_rows}, {DI, has_columns}});
            for (u64 e = 0; e < E; ++e)
                for (u64 h = 0; h < DH; ++h)
                    for (u64 i = 0; i < DI; ++i) to[(e * DH + h) * DI + i] = down_at(e, h, i);
        };
        const auto add_down_transposed = [&](const std::string& name) {
            auto& to = add(name, {{E, true}, {DI, has_columns}, {DH, has_rows}});
            for (u64 e = 0; e < E; ++e)
                for (u64 h = 0; h < DH; ++h)
                    for (u64 i = 0; i < DI; ++i) to[(e * DI + i) * DH + h] = down_at(e, h, i);
        };
        switch (layout) {
        case kind::per_expert:
            for (u64 e = 0; e < E; ++e) {
                const std::string number = std::to_string(x.first_expert + e);
                auto& gate_to = add(number + ".gate_proj", {{GI, has_rows}, {GH, has_columns}});
                for (u64 i = 0; i < GI; ++i)
                    for (u64 h = 0; h < GH; ++h) gate_to[i * GH + h] = gate_at(e, i, h);
                auto& up_to = add(number + ".up_proj", {{GI, has_rows}, {GH, has_columns}});
                for (u64 i = 0; i < GI; ++i)
                    for (u64 h = 0; h < GH; ++h) up_to[i * GH + h] = up_at(e, i, h);
                auto& down_to = add(number + ".down_proj", {{DH, has_rows}, {DI, has_columns}});
                for (u64 h = 0; h < DH; ++h)
                    for (u64 i = 0; i < DI; ++i) down_to[h * DI + i] = down_at(e, h, i);
            }
            break;
        case kind::gate_up: {
            auto& to = add("gate_up_proj", {{E, true}, {2 * GI, true}, {GH, has_columns}});
            for (u64 e = 0; e < E; ++e)
                for (u64 i = 0; i < GI; ++i)
                    for (u64 h = 0; h < GH; ++h) {
                        to[(e * 2 * GI + i) * GH + h] = gate_at(e, i, h);
                        to[(e * 2 * GI + GI + i) * GH + h] = up_at(e, i, h);
                    }
            add_down("down_proj");
            break;
        }
        case kind::up_gate: {
            auto& to = add("w3_w1_weight", {{E, true}, {2 * GI, true}, {GH, has_columns}});
            for (u64 e = 0; e < E; ++e)
                for (u64 i = 0; i < GI; ++i)
                    for (u64 h = 0; h < GH; ++h) {
                        to[(e * 2 * GI + i) * GH + h] = up_at(e, i, h);
                        to[(e * 2 * GI + GI + i) * GH + h] = gate_at(e, i, h);
                    }
            add_down("w2_weight");
            break;
        }
        case kind::stacks: {
            auto& gate_to = add("gate_proj", {{E, true}, {GI, has_rows}, {GH, has_columns}});
            for (u64 e = 0; e < E; ++e)
                for (u64 i = 0; i < GI; ++i)
                    for (u64 h = 0; h < GH; ++h) gate_to[(e * GI + i) * GH + h] = gate_at(e, i, h);
            auto& up_to = add("up_proj", {{E, true}, {GI, has_rows}, {GH, has_columns}});
            for (u64 e = 0; e < E; ++e)
                for (u64 i = 0; i < GI; ++i)
                    for (u64 h = 0; h < GH; ++h) up_to[(e * GI + i) * GH + h] = up_at(e, i, h);
            add_down("down_proj");
            break;
        }
        case kind::rows_1:
        case kind::rows_2:
        case kind::rows_64: {
            const u64 g = !has_rows || layout == kind::rows_1 ? 1 : layout == kind::rows_2 ? 2 : 64;
            auto& to = add("gate_up_proj", {{E, true}, {2 * GI, true}, {GH, has_columns}});
            for (u64 e = 0; e < E; ++e)
                for (u64 group = 0; group < GI / g; ++group)
                    for (u64 r = 0; r < g; ++r)
                        for (u64 h = 0; h < GH; ++h) {
                            to[(e * 2 * GI + group * 2 * g + r) * GH + h] =
                                gate_at(e, group * g + r, h);
                            to[(e * 2 * GI + group * 2 * g + g + r) * GH + h] =
                                up_at(e, group * g + r, h);
                        }
            add_down("down_proj");
            break;
        }
        case kind::transposed: {
            auto& to = add("gate_up_proj", {{E, true}, {GH, has_columns}, {2 * GI, true}});
            for (u64 e = 0; e < E; ++e)
                for (u64 i = 0; i < GI; ++i)
                    for (u64 h = 0; h < GH; ++h) {
                        to[(e * GH + h) * 2 * GI + i] = gate_at(e, i, h);
                        to[(e * GH + h) * 2 * GI + GI + i] = up_at(e, i, h);
                    }
            add_down_transposed("down_proj");
            break;
        }
        case kind::columns_in_turn: {
            auto& to = add("gate_up_proj", {{E, true}, {GH, has_columns}, {2 * GI, true}});
            for (u64 e = 0; e < E; ++e)
                for (u64 i = 0; i < GI; ++i)
                    for (u64 h = 0; h < GH; ++h) {
                        to[(e * GH + h) * 2 * GI + 2 * i] = gate_at(e, i, h);
                        to[(e * GH + h) * 2 * GI + 2 * i + 1] = up_at(e, i, h);
                    }
            add_down_transposed("down_proj");
            break;
        }
        case kind::flat: {
            auto& gate_to = add("w1", {{E * GI, true}, {GH, has_columns}});
            for (u64 e = 0; e < E; ++e)
                for (u64 i = 0; i < GI; ++i)
                    for (u64 h = 0; h < GH; ++h) gate_to[(e * GI + i) * GH + h] = gate_at(e, i, h);
            auto& up_to = add("v1", {{E * GI, true}, {GH, has_columns}});
            for (u64 e = 0; e < E; ++e)
                for (u64 i = 0; i < GI; ++i)
                    for (u64 h = 0; h < GH; ++h) up_to[(e * GI + i) * GH + h] = up_at(e, i, h);
            auto& down_to = add("w2", {{E * DH, true}, {DI, has_columns}});
            for (u64 e = 0; e < E; ++e)
                for (u64 h = 0; h < DH; ++h)
                    for (u64 i = 0; i < DI; ++i) down_to[(e * DH + h) * DI + i] = down_at(e, h, i);
            break;
        }
        }
    }
    return out;
}

/// Elements as bytes: little-endian; of several elements in one byte, the first is in the low bits.
inline std::vector<std::byte> packed(sf::dtype type, const std::vector<element>& elements) {
    const u64 width = sf::bits(type);
    std::vector<std::byte> out((elements.size() * width + 7) / 8);
    if (width % 8 == 0) {
        for (std::size_t i = 0; i < elements.size(); ++i) {
            const u64 value = elements[i].value();
            for (u64 b = 0; b < width / 8; ++b)
                out[i * (width / 8) + b] = static_cast<std::byte>(value >> (8 * b));
        }
        return out;
    }
    for (std::size_t i = 0; i < elements.size(); ++i) {
        const u64 value = elements[i].value();
        for (u64 b = 0; b < width; ++b)
            if ((value >> b & 1) != 0)
                out[(i * width + b) / 8] |= static_cast<std::byte>(1u << ((i * width + b) % 8));
    }
    return out;
}

inline u64 group_of(kind layout) {
    return layout == kind::rows_2 ? 2 : layout == kind::rows_64 ? 64 : 1;
}

/// Why these experts cannot be stored in a layout; empty if they can.
inline std::set<sf::errc> cannot_store(kind layout, const experts& x) {
    std::set<sf::errc> why;
    const bool in_turn = layout == kind::rows_1 || layout == kind::rows_2 ||
                         layout == kind::rows_64 || layout == kind::columns_in_turn;
    const bool behind =
        layout == kind::gate_up || layout == kind::up_gate || layout == kind::transposed;
    if ((x.has(field::weight) || x.has(field::bias)) && x.i() % group_of(layout) != 0)
        why.insert(sf::errc::unnested_groups);
    if (x.has(field::scale)) {
        if (in_turn) why.insert(sf::errc::splits_block);  // the groups are smaller than a block
        if (behind && x.i() % 128 != 0) why.insert(sf::errc::splits_block);
        if (layout == kind::flat && (x.i() % 128 != 0 || x.h % 128 != 0))
            why.insert(sf::errc::splits_block);
    }
    if (!why.empty()) return why;
    for (const stored_tensor& each : stored(layout, x))
        if (each.elements.size() * sf::bits(x.type_of(each.of)) % 8 != 0)
            why.insert(sf::errc::partial_byte);
    return why;
}

inline packed_set make_set(kind layout, const experts& x, std::string_view scope) {
    packed_set out;
    for (const stored_tensor& each : stored(layout, x))
        out.add(std::string{scope} + "." + each.name, x.type_of(each.of), each.shape,
                packed(x.type_of(each.of), each.elements));
    return out;
}

/// Whether whole bytes of the destination are whole bytes of the source for each part, if elements
/// are smaller than a byte.
inline bool whole_bytes_move(kind from, const experts& source, kind to, const experts& kept) {
    const u64 width = sf::bits(source.type);
    if (width % 8 == 0) return true;
    const std::size_t unit = width == 4 ? 2 : 4;
    std::map<element, std::pair<std::size_t, std::size_t>> place_of;
    const auto sources = stored(from, source);
    for (std::size_t t = 0; t < sources.size(); ++t)
        for (std::size_t i = 0; i < sources[t].elements.size(); ++i)
            place_of[sources[t].elements[i]] = {t, i};
    for (const stored_tensor& each : stored(to, kept)) {
        if (each.of != field::weight) continue;
        for (std::size_t i = 0; i < each.elements.size(); i += unit) {
            const auto first = place_of.at(each.elements[i]);
            if (first.second % unit != 0) return false;
            for (std::size_t k = 1; k < unit; ++k) {
                const auto next = place_of.at(each.elements[i + k]);
                if (next.first != first.first || next.second != first.second + k ||
                    each.elements[i + k].part != each.elements[i].part)
                    return false;
            }
        }
    }
    return true;
}

// ------------------------------------------------------------------------------------------
// an executor of our own

struct executed {
    std::vector<std::vector<std::byte>> outputs;
    std::vector<std::vector<unsigned>> times_written;
    bool in_bounds = true;
};

inline executed execute(const sf::copy_plan& plan, const packed_set& set) {
    executed out;
    for (const sf::plan_output& each : plan.outputs()) {
        out.outputs.emplace_back(static_cast<std::size_t>(each.size_bytes));
        out.times_written.emplace_back(static_cast<std::size_t>(each.size_bytes));
    }
    for (const sf::copy_block& block : plan.blocks()) {
        const auto source = set.held_bytes(block.source);
        std::vector<u64> step(block.loop_count);
        for (bool more = true; more;) {
            u64 from = block.source_offset, to = block.destination_offset;
            for (std::uint32_t l = 0; l < block.loop_count; ++l) {
                from += step[l] * block.loops[l].source_stride;
                to += step[l] * block.loops[l].destination_stride;
            }
            for (u64 b = 0; b < block.run_bytes; ++b) {
                if (from + b >= source.size() || block.output >= out.outputs.size() ||
                    to + b >= out.outputs[block.output].size()) {
                    out.in_bounds = false;
                    return out;
                }
                out.outputs[block.output][to + b] = source[from + b];
                ++out.times_written[block.output][to + b];
            }
            more = false;
            for (std::uint32_t l = block.loop_count; l-- > 0;) {
                if (++step[l] < block.loops[l].extent) {
                    more = true;
                    break;
                }
                step[l] = 0;
            }
        }
    }
    return out;
}

/// Plans the tensors under a scope from one layout to another, as `plan` does.
inline sf::result<sf::copy_plan> plan_kinds(const packed_set& set, std::string_view scope,
                                            kind from, kind to, const sf::plan_options& options) {
    return sf::plan(set, scope, description(from), description(to), options);
}

}  // namespace laws

#endif
