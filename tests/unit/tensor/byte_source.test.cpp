#include <safefuse/tensor/byte_source.hpp>

#include <doctest/doctest.h>

#include <array>
#include <span>
#include <vector>

#include "../../support/support.hpp"

namespace sf = safefuse;

static_assert(sf::byte_source<sf::memory_source>);
static_assert(!sf::file_source<sf::memory_source>);
static_assert(!sf::byte_source<int>);

namespace {

// A source with a chosen parameter type of read(), to test which types are accepted.
template <class Out, bool Throws = false>
struct reads_into : sf::memory_source {
    sf::result<void> read(std::uint64_t offset, Out out) const noexcept(!Throws) {
        return sf::memory_source::read(offset, out);
    }
};
struct reads_into_anything : sf::memory_source {
    template <class Out>
    sf::result<void> read(std::uint64_t offset, Out&& out) const noexcept {
        return sf::memory_source::read(offset, out);
    }
};
struct lends_a_copy : sf::memory_source {
    std::vector<std::byte> bytes() const noexcept { return {}; }
};
}  // namespace

static_assert(sf::byte_source<reads_into<sf::span<std::byte>>>);
static_assert(sf::byte_source<reads_into<std::span<std::byte>>>);
static_assert(sf::byte_source<reads_into_anything>);
static_assert(!sf::byte_source<reads_into<sf::span<std::byte>, true>>);
static_assert(!sf::byte_source<reads_into<std::span<std::byte>, true>>);
static_assert(!sf::byte_source<lends_a_copy>);

TEST_CASE("memory source: gives the caller's bytes, without a copy") {
    const std::string text = "0123456789";
    const sf::memory_source source{support::bytes_of(text)};
    CHECK(source.size_bytes() == 10);
    CHECK(source.bytes().data() == static_cast<const void*>(text.data()));
    source.advise(0, 100, sf::advice::done_with);
    CHECK(support::string_of(source.bytes()) == text);
}

TEST_CASE("memory source: reads every range inside and refuses every range that passes the end") {
    const std::string text = "0123456789";
    const sf::memory_source source{support::bytes_of(text)};
    for (std::uint64_t offset = 0; offset <= 12; ++offset)
        for (std::size_t count = 0; count <= 12; ++count) {
            std::string out(count, '?');
            const auto done = source.read(offset, std::as_writable_bytes(std::span{out}));
            if (offset + count <= 10) {
                REQUIRE(done);
                CHECK(out == text.substr(offset, count));
            } else {
                REQUIRE(!done);
                CHECK(done.error().code == sf::errc::read_past_end);
                CHECK(done.error().offset == offset);
                CHECK(done.error().expected == count);
                CHECK(done.error().actual == 10);
                CHECK(out == std::string(count, '?'));
            }
        }
}

TEST_CASE("memory source: an offset near 2^64 does not wrap") {
    const std::string text = "0123456789";
    const sf::memory_source source{support::bytes_of(text)};
    std::array<std::byte, 4> out{};
    for (const std::uint64_t offset :
         {~std::uint64_t{0}, ~std::uint64_t{0} - 3, std::uint64_t{1} << 63}) {
        const auto done = source.read(offset, out);
        REQUIRE(!done);
        CHECK(done.error().code == sf::errc::read_past_end);
    }
}

TEST_CASE("memory source: an empty one is valid") {
    const sf::memory_source source;
    CHECK(source.size_bytes() == 0);
    CHECK(source.bytes().empty());
    CHECK(source.read(0, {}));
}
