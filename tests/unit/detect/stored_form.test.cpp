// Which stored form of a family a tensor set has, where its tensors could be in several.
#include <safefuse/detect/stored_form.hpp>

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

#include <safefuse/models/registry.hpp>
#include <safefuse/models/standard.hpp>

#include "../../support/laws.hpp"
#include "../../support/modules.hpp"

namespace sf = safefuse;
using laws::packed_set;
using laws::u64;
using modules::add_module;
using modules::extents;
using sf::errc;
using sf::layouts::down;
using sf::layouts::gate;
using sf::layouts::gate_up_fused;
using sf::layouts::per_expert;
using sf::layouts::up;

namespace {

using experts_path = sf::at_path<"mlp.experts">;
/// The names of per_expert, with other meanings. All shapes fit both.
using swapped = sf::layout<sf::module_suffixes, sf::tensor<"{i}.gate_proj", up>,
                           sf::tensor<"{i}.up_proj", gate>, sf::tensor<"{i}.down_proj", down>>;
using turned =
    sf::layout<sf::module_suffixes, sf::tensor<"{i}.gate_proj", sf::transpose<0, 1, gate>>,
               sf::tensor<"{i}.up_proj", sf::transpose<0, 1, up>>,
               sf::tensor<"{i}.down_proj", sf::transpose<0, 1, down>>>;
/// Only down is transposed: it fits per_expert only where I = H.
using down_turned = sf::layout<sf::module_suffixes, sf::tensor<"{i}.gate_proj", gate>,
                               sf::tensor<"{i}.up_proj", up>,
                               sf::tensor<"{i}.down_proj", sf::transpose<0, 1, down>>>;
/// per_expert in other words: the same bytes.
using in_other_order = sf::layout<sf::module_suffixes, sf::tensor<"{i}.down_proj", down>,
                                  sf::tensor<"{i}.up_proj", up>, sf::tensor<"{i}.gate_proj", gate>>;
/// The names of the model's form.
using up_first = sf::layout<sf::parameter_suffixes,
                            sf::tensor<"gate_up_proj", sf::stack<sf::concat<0, up, gate>>>,
                            sf::tensor<"down_proj", sf::stack<down>>>;
using fused_turned =
    sf::layout<sf::parameter_suffixes,
               sf::tensor<"gate_up_proj", sf::stack<sf::transpose<0, 1, sf::concat<0, gate, up>>>>,
               sf::tensor<"down_proj", sf::stack<sf::transpose<0, 1, down>>>>;
/// Experts without numbers in their names: stacked and flattened rows, which fit each other.
using rows = sf::layout<sf::module_suffixes, sf::tensor<"gate", sf::flatten<0, sf::stack<gate>>>,
                        sf::tensor<"up", sf::flatten<0, sf::stack<up>>>,
                        sf::tensor<"down", sf::flatten<0, sf::stack<down>>>>;
using rows_turned =
    sf::layout<sf::module_suffixes, sf::tensor<"gate", sf::flatten<0, sf::stack<gate>>>,
               sf::tensor<"up", sf::flatten<0, sf::stack<up>>>,
               sf::tensor<"down", sf::flatten<0, sf::stack<sf::transpose<0, 1, down>>>>>;

struct many : sf::family<"many", per_expert, gate_up_fused> {
    using forms = sf::stored_forms<
        sf::stored_form<"turned", experts_path, turned>,
        sf::stored_form<"down_turned", experts_path, down_turned>,
        sf::stored_form<"swapped", experts_path, swapped>,
        sf::stored_form<"in_other_order", experts_path, in_other_order>,
        sf::stored_form<"up_first", experts_path, up_first>,
        sf::stored_form<"fused_turned", experts_path, fused_turned>,
        sf::stored_form<"rows", experts_path, rows>,
        sf::stored_form<"rows_turned", experts_path, rows_turned>,
        sf::stored_form<"elsewhere", sf::at_path<"moe.experts", "mlp.experts">, per_expert>>;
};
/// The hub's form is the model's.
struct same : sf::family<"same", gate_up_fused, gate_up_fused> {
    using forms = sf::stored_forms<sf::stored_form<"up_first", experts_path, up_first>,
                                   sf::stored_form<"fused_turned", experts_path, fused_turned>,
                                   sf::stored_form<"per-expert", experts_path, per_expert>>;
};
template <class Hub, class Other>
struct two : sf::family<"two", Hub, gate_up_fused> {
    using forms = sf::stored_forms<sf::stored_form<"other", experts_path, Other>>;
};

struct form {
    std::string name;
    sf::family_description family;
};
/// The stored forms of a family, and that of the model.
std::vector<form> forms_of(const sf::family_description& family) {
    std::vector<form> out{{"hub", family}};
    for (std::size_t i = 0; i < family.forms.size(); ++i)
        out.push_back(
            {std::string{family.forms[i].name}, sf::with_stored_form(family, family.forms[i])});
    sf::family_description model = family;
    model.from = model.to;
    model.from_module = model.to_module;
    if (!family.module_at(0).is_same()) out.push_back({"model", model});
    return out;
}

std::string scope_of(const sf::family_description& family, u64 layer) {
    return "model.layers." + std::to_string(layer) + "." + laws::with_numbers(family.from_module);
}

std::string form_of(const sf::tensor_set_ref& set, const sf::family_description& family,
                    const sf::plan_options& options = {}) {
    const auto found = sf::with_stored_form_of(set, family, options);
    if (!found && found.error().code == errc::ambiguous_form)
        return "ambiguous: " + std::string{found.error().detail.view()};
    if (!found) return std::string{found.error().message().view()};
    for (const form& each : forms_of(family))
        if (each.family.from == found->from && each.family.from_module == found->from_module)
            return each.name;
    return "none";
}

/// The plan of a set's layer 0 as if it were in a form.
sf::result<sf::copy_plan> planned_as(const packed_set& set, const std::string& scope,
                                     const form& how) {
    return sf::plan(set, scope, *how.family.from, *how.family.to, {.allow_missing_scales = true});
}

struct sizes {
    u64 e, i, h;
};
/// Values for all extents of a layout.
extents extents_of(const sf::layout_description& layout, const sizes& x) {
    extents out{{"E", x.e}, {"I", x.i}, {"H", x.h}, {"ONE", 1}};
    for (const sf::tensor_description& tensor : layout.tensors) {
        const sf::mapping placed = tensor.place({});
        for (std::size_t p = 0; p < placed.part_count; ++p) {
            const sf::part_mapping& part = placed.parts[p];
            if (!part.experts.empty()) out.insert({part.experts, x.e});
            for (std::size_t a = 0; a < part.part_axes; ++a) out.insert({part.extents[a], 3});
        }
    }
    return out;
}

/// For each form of a family and each size: the form that is found is one that makes the bytes
/// which the stored form makes; or two forms are named, and they make different bytes.
void check_all_forms(const sf::family_description& family, std::size_t& fit_two,
                     std::size_t& ambiguous) {
    for (const form& stored : forms_of(family))
        for (const sizes& x : {sizes{2, 4, 6},
                               {2, 4, 4},
                               {3, 6, 4},
                               {2, 4, 8},
                               {2, 8, 4},
                               {4, 2, 4},
                               {1, 1, 1},
                               {4, 4, 2}}) {
            CAPTURE(std::string{family.name});
            CAPTURE(stored.name);
            INFO("E ", x.e, " I ", x.i, " H ", x.h);
            packed_set set;
            const std::string scope = scope_of(stored.family, 0);
            add_module(set, *stored.family.from, scope, extents_of(*stored.family.from, x), false);
            const auto right = planned_as(set, scope, stored);
            if (!right) continue;  // E cannot be told
            bool any_differs = false;
            for (const form& other : forms_of(family)) {
                if (other.name == stored.name ||
                    other.family.from_module != stored.family.from_module)
                    continue;
                const auto wrong = planned_as(set, scope, other);
                if (!wrong) continue;
                ++fit_two;
                any_differs = any_differs || !sf::detail::same_work(*right, *wrong);
            }
            const std::string found = form_of(set, family);
            CAPTURE(found);
            if (any_differs) {
                ++ambiguous;
                CHECK(found.starts_with("ambiguous: of family " + std::string{family.name}));
                continue;
            }
            CHECK_FALSE(found.starts_with("ambiguous"));
            for (const form& each : forms_of(family)) {
                if (each.name != found || stored.name == "model") continue;
                const auto plan = planned_as(set, scope, each);
                REQUIRE(plan);
                CHECK(sf::detail::same_work(*plan, *right));
            }
        }
}

}  // namespace

TEST_CASE("stored form: experts that fit two forms with different bytes are not the first's") {
    const auto& family = sf::description_of<two<per_expert, swapped>>;
    packed_set set;
    add_module(set, *family.from, "model.layers.0.mlp.experts", {{"E", 2}, {"I", 4}, {"H", 6}},
               false);
    const auto found = sf::with_stored_form_of(set, family);
    REQUIRE_FALSE(found);
    CHECK(found.error().code == errc::ambiguous_form);
    CHECK(found.error().scope == "model.layers.0.mlp.experts");
    CHECK(std::string{found.error().detail.view()} ==
          "of family two: \"hub\" and \"other\"; choose one by its name");
    MESSAGE(std::string{found.error().message().view()});
    // whoever names one of them gets it
    CHECK(sf::with_named_form(family, "hub")->from == family.from);
    CHECK(sf::with_named_form(family, "other")->from == family.forms[0].module.from);
}

TEST_CASE("stored form: if the model's form fits, too, the failure says what to do in each case") {
    const auto& family = sf::description_of<same>;
    packed_set set;
    add_module(set, *family.from, "model.layers.0.mlp.experts", {{"E", 2}, {"I", 4}, {"H", 6}},
               false);
    const auto found = sf::with_stored_form_of(set, family);
    REQUIRE_FALSE(found);
    CHECK(found.error().code == errc::ambiguous_form);
    MESSAGE(std::string{found.error().detail.view()});
    CHECK(
        std::string{found.error().detail.view()} ==
        "of family same: \"up_first\" and the model's own; if it is the model's, nothing is to be "
        "fused; otherwise choose the other by its name");
    CHECK(sf::with_named_form(family, "up_first"));
}

TEST_CASE("stored form: if the names fit two forms, the shapes of all scopes decide") {
    const auto& family = sf::description_of<two<per_expert, down_turned>>;
    const auto& other = *family.forms[0].module.from;
    const auto stored_as = [&](const sf::layout_description& first, const extents& x,
                               const sf::layout_description& second, const extents& y) {
        packed_set set;
        add_module(set, first, "model.layers.0.mlp.experts", x, false);
        add_module(set, second, "model.layers.1.mlp.experts", y, false);
        return form_of(set, family);
    };
    const extents square{{"E", 2}, {"I", 4}, {"H", 4}}, wide{{"E", 2}, {"I", 4}, {"H", 6}};
    CHECK(stored_as(*family.from, wide, *family.from, wide) == "hub");
    CHECK(stored_as(*family.from, square, *family.from, wide) == "hub");
    CHECK(stored_as(other, wide, other, wide) == "other");
    CHECK(stored_as(other, square, other, wide) == "other");
    CHECK(stored_as(other, square, other, square).starts_with("ambiguous"));
    // neither: the plan of the first says what is wrong
    packed_set broken;
    broken.add("m.mlp.experts.0.gate_proj.weight", sf::dtype::bf16, {4, 6});
    CHECK(form_of(broken, family) == "hub");
}

TEST_CASE("stored form: the configuration decides") {
    const auto& family = sf::description_of<two<rows, rows_turned>>;
    packed_set set;
    add_module(set, *family.from, "m.mlp.experts", {{"E", 2}, {"I", 4}, {"H", 8}}, false);
    const sf::known_extent experts[] = {{"E", 2}};
    CHECK(form_of(set, family, {.known_extents = experts}) == "hub");
    packed_set turned_set;
    add_module(turned_set, *family.forms[0].module.from, "m.mlp.experts",
               {{"E", 2}, {"I", 4}, {"H", 8}}, false);
    CHECK(form_of(turned_set, family, {.known_extents = experts}) == "other");
}

TEST_CASE("stored form: forms in different scopes are not compared") {
    const auto& family = sf::description_of<many>;
    packed_set set;
    add_module(set, *family.from, "model.layers.0.moe.experts", {{"E", 2}, {"I", 4}, {"H", 6}},
               false);
    CHECK(form_of(set, family) == "elsewhere");
    packed_set none;
    none.add("lm_head.weight", sf::dtype::bf16, {4, 6});
    CHECK(form_of(none, family) == "hub");
}

TEST_CASE("stored form: all forms of a family, at shapes where they could be confused") {
    std::size_t fit_two = 0, ambiguous = 0;
    check_all_forms(sf::description_of<many>, fit_two, ambiguous);
    check_all_forms(sf::description_of<same>, fit_two, ambiguous);
    check_all_forms(sf::description_of<two<fused_turned, up_first>>, fit_two, ambiguous);
    MESSAGE(fit_two, " pairs fit, ", ambiguous, " sets are ambiguous");
    CHECK(ambiguous > 50);
}

TEST_CASE("stored form: no shipped family has two forms that could be confused") {
    std::size_t fit_two = 0, ambiguous = 0;
    for (const sf::family_description& family : sf::shipped_families::all)
        check_all_forms(family, fit_two, ambiguous);
    MESSAGE(fit_two, " pairs fit");
    CHECK(ambiguous == 0);
}
