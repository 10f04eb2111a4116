#include <safefuse/io/huge_page_buffer.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>

#include <safefuse/models/transformers.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/run/fuse.hpp>

namespace sf = safefuse;

static_assert(std::is_nothrow_move_constructible_v<sf::huge_page_buffer> &&
              std::is_nothrow_move_assignable_v<sf::huge_page_buffer>);
static_assert(!std::is_copy_constructible_v<sf::huge_page_buffer> &&
              !std::is_copy_assignable_v<sf::huge_page_buffer>);

TEST_CASE("huge_page_buffer: a buffer of any size begins at a page, is zeroed and can be written") {
    for (const std::uint64_t size :
         {1u, 4095u, 4096u, 1u << 20, (1u << 20) + 1, 2u << 20, (2u << 20) + 1, 5'000'003u}) {
        CAPTURE(size);
        auto made = sf::huge_page_buffer::make(size);
        REQUIRE(made);
        CHECK(made->size_bytes() == size);
        REQUIRE(made->bytes().size() == size);
        CHECK(reinterpret_cast<std::uintptr_t>(made->bytes().data()) % 4096 == 0);
        CHECK(std::all_of(made->bytes().begin(), made->bytes().end(),
                          [](std::byte b) { return b == std::byte{0}; }));
        std::memset(made->bytes().data(), 7, made->size_bytes());
        CHECK(std::as_const(*made).bytes().back() == std::byte{7});
        if (made->asked_for_huge_pages())
            CHECK(reinterpret_cast<std::uintptr_t>(made->bytes().data()) % (2 << 20) == 0);
    }
}

TEST_CASE("huge_page_buffer: zero bytes and too many bytes") {
    auto none = sf::huge_page_buffer::make(0);
    REQUIRE(none);
    CHECK(none->bytes().empty());
    CHECK_FALSE(none->asked_for_huge_pages());
    for (const std::uint64_t size :
         {~std::uint64_t{0}, ~std::uint64_t{0} - (std::uint64_t{3} << 20), std::uint64_t{1} << 63,
          (std::uint64_t{1} << 62) + 5}) {
        const auto made = sf::huge_page_buffer::make(size);
        REQUIRE_FALSE(made);
        CHECK(made.error().code == sf::errc::out_of_memory);
        CHECK(made.error().expected == size);
    }
}

TEST_CASE("huge_page_buffer: it can be moved, and the source is empty afterwards") {
    auto first = sf::huge_page_buffer::make(3'000'000);
    auto second = sf::huge_page_buffer::make(10);
    REQUIRE(first);
    REQUIRE(second);
    first->bytes()[2'999'999] = std::byte{9};
    const std::byte* const where = first->bytes().data();
    sf::huge_page_buffer moved{std::move(*first)};
    CHECK(first->bytes().empty());
    CHECK(moved.bytes().data() == where);
    *second = std::move(moved);
    CHECK(second->bytes().data() == where);
    CHECK(second->bytes()[2'999'999] == std::byte{9});
    auto& same = *second;
    *second = std::move(same);
    CHECK(second->bytes().data() == where);
    sf::huge_page_buffer empty;
    *second = std::move(empty);
    CHECK(second->bytes().empty());
}

TEST_CASE("huge_page_buffer: fuse writes to it") {
    const std::uint64_t shape[] = {2, 2};
    const std::uint16_t values[] = {1, 2, 3, 4};
    const auto view =
        *sf::tensor_view::of(sf::dtype::bf16, shape, std::as_bytes(std::span{values}));
    const sf::named_tensor tensors[] = {{"moe.0.gate_proj.weight", view},
                                        {"moe.0.up_proj.weight", view},
                                        {"moe.0.down_proj.weight", view}};
    const sf::tensor_list set{tensors};
    const auto plan = sf::plan<sf::layouts::per_expert, sf::layouts::gate_up_fused>(set, "moe");
    REQUIRE(plan);
    const auto gate_up = plan->output("gate_up_proj");
    REQUIRE(gate_up);
    auto memory = sf::huge_page_buffer::make(gate_up->size_bytes);
    REQUIRE(memory);
    REQUIRE(sf::fuse(*plan, "gate_up_proj", memory->bytes()));
    CHECK(std::memcmp(memory->bytes().data(), values, sizeof values) == 0);
    CHECK(std::memcmp(memory->bytes().data() + sizeof values, values, sizeof values) == 0);
}
