// Laws that every family obeys, for every kind of module that it declares: fusing writes each byte
// of its outputs once and leaves none unwritten, and unfusing gives back every tensor under its
// name, byte for byte. layout.test.cpp (a slow reference) and interop/families.py (transformers)
// check the bytes.
#include <safefuse/detect/detect.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <safefuse/plan/plan.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/run/fuse.hpp>

#include "../../support/laws.hpp"

namespace {

namespace sf = safefuse;
using laws::packed_set;
using u64 = std::uint64_t;
using tensors = std::map<std::string, std::vector<std::byte>>;

struct sizes {
    u64 experts, inner, hidden;
};
// including H = I, H = 2I, I = 1, E = 1
constexpr sizes shapes[] = {{1, 1, 1}, {1, 3, 4},  {2, 4, 4}, {3, 3, 6},
                            {2, 1, 5}, {11, 2, 6}, {4, 8, 2}};

/// Extents for all dims of a layout: the experts' first, I and H, and a different number for each
/// of the others.
sf::layout_args extents_of(const sf::layout_description& layout, const sizes& x) {
    sf::layout_args out;
    const auto set = [&](std::string_view name, u64 value) {
        const std::size_t dim = out.dim(name);
        REQUIRE(dim < sf::max_dims);
        if (out.values[dim] == 0) out.values[dim] = value;
    };
    set("E", x.experts);
    for (const sf::tensor_description& tensor : layout.tensors) {
        const sf::mapping placed = tensor.place({});
        for (std::size_t p = 0; p < placed.part_count; ++p) {
            const sf::part_mapping& part = placed.parts[p];
            // groups that share their numbers have equal sizes; the first may be larger by one
            if (!part.experts.empty()) set(part.experts, x.experts);
            for (std::size_t a = 0; a < part.part_axes; ++a) {
                const std::string_view name = part.extents[a];
                set(name, name == "I"     ? x.inner
                          : name == "H"   ? x.hidden
                          : name == "ONE" ? 1
                                          : 2 + static_cast<u64>(name[0]) % 5);
            }
        }
    }
    return out;
}

/// All tensors of a module in one of its layouts, weights only, full of random bytes.
tensors make_module(packed_set& set, const sf::layout_description& layout, const std::string& scope,
                    const sizes& x, sf::dtype type, std::mt19937_64& random) {
    sf::layout_args extents = extents_of(layout, x);
    tensors made;
    const sf::field_suffix* value = nullptr;
    for (const sf::field_suffix& each : layout.fields)
        if (value == nullptr && each.field->role == sf::field_role::value) value = &each;
    REQUIRE(value != nullptr);
    extents.field = value->field->forms.data();
    for (const sf::tensor_description& tensor : layout.tensors) {
        const sf::mapping placed = tensor.place(extents);
        REQUIRE(placed.error == sf::mapping_error::none);
        std::vector<u64> shape;
        for (std::size_t a = 0; a < placed.axis_count; ++a)
            if (placed.axes[a].present) shape.push_back(placed.axes[a].extent);
        u64 size_bytes = 0;
        REQUIRE(sf::tensor_size(type, shape, size_bytes) == sf::size_verdict::fits);
        const sf::part_mapping& part = placed.parts[0];
        const u64 first = part.after.empty() ? 0 : extents.value(part.after);
        const u64 count = tensor.per_expert() ? extents.value(part.experts) : 1;
        for (u64 e = first; e < first + count; ++e) {
            sf::text local;
            REQUIRE(sf::detail::spell(local, tensor.name, e, value->suffix));
            const std::string name = scope + "." + std::string{local.view()};
            std::vector<std::byte> bytes(static_cast<std::size_t>(size_bytes));
            for (std::byte& b : bytes) b = static_cast<std::byte>(random());
            set.add(name, type, shape, bytes);
            made[name] = std::move(bytes);
        }
    }
    return made;
}

/// Runs a plan and checks its copies: every byte is written exactly once.
tensors run(const sf::copy_plan& plan, packed_set& into) {
    tensors made;
    std::vector<std::vector<std::byte>> outputs;
    for (std::size_t o = 0; o < plan.outputs().size(); ++o) {
        const sf::plan_output& output = plan.outputs()[o];
        std::vector<unsigned> written(static_cast<std::size_t>(output.size_bytes), 0);
        for (const sf::copy_block& block : plan.blocks()) {
            if (block.output != o) continue;
            std::vector<u64> index(block.loop_count, 0);
            for (u64 i = 0; i < block.run_count(); ++i) {
                u64 rest = i, at = block.destination_offset;
                for (std::uint32_t l = block.loop_count; l-- > 0; rest /= block.loops[l].extent)
                    at += rest % block.loops[l].extent * block.loops[l].destination_stride;
                for (u64 b = 0; b < block.run_bytes; ++b)
                    ++written.at(static_cast<std::size_t>(at + b));
            }
        }
        CHECK(std::set<unsigned>(written.begin(), written.end()) ==
              (written.empty() ? std::set<unsigned>{} : std::set<unsigned>{1}));
        std::vector<std::byte> bytes(static_cast<std::size_t>(output.size_bytes));
        REQUIRE(sf::fuse(plan, output.local_name, bytes));
        into.add(std::string{output.name}, output.type, {output.shape.begin(), output.shape.end()},
                 bytes);
        made[std::string{output.name}] = std::move(bytes);
    }
    return made;
}

/// Fuses and unfuses one module of a family.
void check_module(const sf::family_description& family, std::uint32_t m, const sizes& x,
                  sf::dtype type, std::mt19937_64& random) {
    const sf::module_description there = family.module_at(m),
                                 back = family.in(sf::direction::inverse).module_at(m);
    CAPTURE(std::string{family.name});
    CAPTURE(m);
    CAPTURE(x.experts);
    CAPTURE(x.inner);
    CAPTURE(x.hidden);
    packed_set stored, fused, again;
    const std::string scope = "model.layers.3." + laws::with_numbers(there.from_path);
    const tensors original = make_module(stored, *there.from, scope, x, type, random);
    const sf::layout_args extents = extents_of(*there.from, x);
    std::vector<sf::known_extent>
        known;  // shapes do not tell the experts of DBRX, nor the heads of other modules
    for (std::size_t s = 0; s < extents.dim_count; ++s)
        if (extents.names[s] == "E" || m > 0)
            known.push_back({extents.names[s], extents.values[s]});
    const sf::plan_options options{.known_extents = {known.data(), known.size()}};

    const auto plan = sf::plan(stored, scope, *there.from, *there.to, options);
    INFO(std::string{plan ? std::string_view{} : plan.error().message().view()});
    REQUIRE(plan);
    run(*plan, fused);
    const auto inverse = sf::plan(fused, scope, *back.from, *back.to, options);
    INFO(std::string{inverse ? std::string_view{} : inverse.error().message().view()});
    REQUIRE(inverse);
    CHECK(run(*inverse, again) == original);
}

/// A form in which a family's experts are stored, the model's among them.
struct known_form {
    std::string path;
    const sf::layout_description* layout;
};
std::vector<known_form> forms_of(const sf::family_description& family) {
    std::vector<known_form> out{{laws::with_numbers(family.from_module), family.from},
                                {laws::with_numbers(family.to_module), family.to}};
    for (std::size_t i = 0; i < family.forms.size(); ++i)
        out.push_back(
            {laws::with_numbers(family.forms[i].module.from_path), family.forms[i].module.from});
    return out;
}

}  // namespace

TEST_CASE("families: tensors that fit two forms of a family give the same bytes in both") {
    std::mt19937_64 random{5};
    std::size_t pairs = 0, alike = 0;
    for (const sf::family_description& family : sf::shipped_families::all)
        for (const known_form& a : forms_of(family))
            for (const known_form& b : forms_of(family))
                for (const sizes& x : {sizes{1, 4, 4}, sizes{2, 4, 4}, sizes{2, 4, 8},
                                       sizes{2, 8, 4}, sizes{4, 4, 2}, sizes{4, 2, 4},
                                       sizes{8, 4, 4}, sizes{2, 2, 2}, sizes{1, 1, 1}}) {
                    if (a.layout == b.layout || a.path != b.path) continue;
                    ++pairs;
                    packed_set stored, by_a, by_b;
                    const std::string scope = "model.layers.3." + a.path;
                    make_module(stored, *a.layout, scope, x, sf::dtype::f16, random);
                    const sf::known_extent known[] = {{"E", x.experts}};
                    const sf::plan_options options{.known_extents = known};
                    const auto wrong = sf::plan(stored, scope, *b.layout, *family.to, options);
                    if (!wrong) continue;
                    const auto right = sf::plan(stored, scope, *a.layout, *family.to, options);
                    REQUIRE(right);
                    ++alike;
                    CAPTURE(std::string{family.name});
                    CAPTURE(x.experts);
                    CAPTURE(x.inner);
                    CAPTURE(x.hidden);
                    CHECK(run(*right, by_a) == run(*wrong, by_b));
                }
    MESSAGE(pairs, " pairs of forms, of which ", alike, " fit the same names and shapes");
    CHECK(pairs > 500);
}

TEST_CASE(
    "families: every module of every family is written completely, each byte once, and unfused "
    "to its names") {
    std::mt19937_64 random{4};
    std::size_t modules = 0;
    for (const sf::family_description& family : sf::shipped_families::all)
        for (std::uint32_t m = 0; m < family.module_count(); ++m) {
            ++modules;
            for (const sizes& x : shapes)
                for (const sf::dtype type : {sf::dtype::f16, sf::dtype::f32, sf::dtype::f64})
                    check_module(family, m, x, type, random);
        }
    MESSAGE(modules, " kinds of modules in ", sf::shipped_families::all.size(), " families");
}
