// Includes the forward declarations before the definitions: a difference does not compile.
#include <safefuse/fwd.hpp>

#include <safefuse/safefuse.hpp>

#include <string>

#include <doctest/doctest.h>

#include "../../support/forward.hpp"

namespace sf = safefuse;

namespace forward {

bool has_experts(const sf::checkpoint& checkpoint, sf::result<sf::copy_plan>& plan) {
    return checkpoint.size() > 0 && plan.has_value();
}
sf::result<sf::tensor_view> first_of(const sf::tensor_file& file, sf::errc otherwise) {
    if (file.size() == 0) return sf::failure{.code = otherwise};
    return file.view(0);
}

}  // namespace forward

TEST_CASE("fwd: functions that were declared with fwd.hpp alone can be defined and called") {
    const std::string folder = SAFEFUSE_TEST_DATA "/transformers/qwen3_moe/checkpoint";
    const auto file = sf::tensor_file::open(folder + "/model.safetensors");
    REQUIRE(file);
    const auto first = forward::first_of(*file, sf::errc::tensor_not_found);
    REQUIRE(first);
    CHECK(first->bytes().data() == file->view(0)->bytes().data());
    const auto checkpoint = sf::checkpoint::open(folder);
    REQUIRE(checkpoint);
    sf::result<sf::copy_plan> plan = sf::failure{};
    CHECK_FALSE(forward::has_experts(*checkpoint, plan));
}
