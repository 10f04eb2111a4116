// A plan stays valid if the set that it was made from is moved. platforms.cmake and CI run this
// under the address sanitizer.
#include <safefuse/safefuse.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../support/support.hpp"

namespace sf = safefuse;

namespace {

const std::string scope = "model.layers.0.mlp.experts";

/// The tensors of two experts, as qwen2_moe stores them, with I = 2 and H = 3.
std::vector<support::tensor> experts() {
    std::vector<support::tensor> made;
    for (const char* expert : {"0", "1"})
        for (const std::string part : {"gate_proj", "up_proj", "down_proj"}) {
            const bool is_down = part == "down_proj";
            made.push_back(support::bf16(
                scope + "." + expert + "." + part + ".weight",
                is_down ? std::vector<std::uint64_t>{3, 2} : std::vector<std::uint64_t>{2, 3}));
        }
    return made;
}

/// A checkpoint of one file, and the output that fusing it must give: the rows of gate, then up, of
/// each expert in turn.
struct checkpoint_on_disk {
    checkpoint_on_disk() {
        const std::vector<support::tensor> tensors = experts();
        support::write_tensor_file(directory.path() / "model.safetensors", tensors);
        gate_up = tensors[0].data + tensors[1].data + tensors[3].data + tensors[4].data;
    }
    support::temporary_directory directory;
    std::string gate_up;
};

std::string fused(const sf::copy_plan& plan) {
    std::vector<std::byte> out(2 * 4 * 3 * 2);
    const auto done = sf::fuse(plan, "gate_up_proj", out);
    CHECK_MESSAGE(done.has_value(), (done ? "" : done.error().message().c_str()));
    return support::string_of(out);
}

/// A user's set that keeps its state at a fixed address: refs hold its `stable_view()`.
class shared_set {
public:
    struct view {
        const sf::checkpoint* state;
        [[nodiscard]] std::size_t size() const noexcept { return state->size(); }
        [[nodiscard]] sf::tensor_spec spec(std::size_t i) const noexcept { return state->spec(i); }
        [[nodiscard]] sf::tensor_location place(std::size_t i) const noexcept {
            return state->place(i);
        }
        [[nodiscard]] std::string_view source_name(std::uint32_t s) const noexcept {
            return state->source_name(s);
        }
        [[nodiscard]] sf::span<const std::byte> source_bytes(std::uint32_t s) const noexcept {
            return state->source_bytes(s);
        }
        sf::result<void> read(std::uint32_t s, std::uint64_t offset,
                              sf::span<std::byte> out) const noexcept {
            return state->read(s, offset, out);
        }
    };

    explicit shared_set(sf::checkpoint&& state)
        : state_{std::make_unique<sf::checkpoint>(std::move(state))} {}
    [[nodiscard]] view stable_view() const noexcept { return {state_.get()}; }
    [[nodiscard]] std::size_t size() const noexcept { return state_->size(); }
    [[nodiscard]] sf::tensor_spec spec(std::size_t i) const noexcept { return state_->spec(i); }
    [[nodiscard]] sf::tensor_location place(std::size_t i) const noexcept {
        return state_->place(i);
    }
    [[nodiscard]] std::string_view source_name(std::uint32_t s) const noexcept {
        return state_->source_name(s);
    }
    [[nodiscard]] sf::span<const std::byte> source_bytes(std::uint32_t s) const noexcept {
        return state_->source_bytes(s);
    }
    sf::result<void> read(std::uint32_t s, std::uint64_t offset,
                          sf::span<std::byte> out) const noexcept {
        return state_->read(s, offset, out);
    }

private:
    std::unique_ptr<sf::checkpoint> state_;
};

}  // namespace

TEST_CASE_TEMPLATE(
    "moved sets: a plan still fuses after its checkpoint is moved, moved again, and moved by a "
    "growing vector",
    Checkpoint, sf::checkpoint, sf::positional_checkpoint) {
    const checkpoint_on_disk disk;
    auto opened = Checkpoint::open(disk.directory.string());
    REQUIRE(opened);
    const auto plan = sf::plan<sf::families::qwen2_moe>(*opened, scope);
    REQUIRE(plan);

    auto on_heap = std::make_unique<Checkpoint>(std::move(*opened));
    CHECK(fused(*plan) == disk.gate_up);

    auto other = Checkpoint::open(disk.directory.string());
    REQUIRE(other);
    // `other` gives up what it held and is planned from what it was given
    *other = std::move(*on_heap);
    on_heap.reset();
    CHECK(fused(*plan) == disk.gate_up);

    std::vector<Checkpoint> grows;
    grows.push_back(std::move(*other));
    for (int i = 0; i < 5; ++i) {
        auto next = Checkpoint::open(disk.directory.string());
        REQUIRE(next);
        grows.push_back(std::move(*next));
    }
    CHECK(fused(*plan) == disk.gate_up);
    CHECK(plan->set().source_name(0) == grows[0].source_name(0));
    CHECK(plan->set().spec(0).name == grows[0].spec(0).name);

    auto itself = &grows[0];
    grows[0] = std::move(*itself);
    CHECK(fused(*plan) == disk.gate_up);
}

TEST_CASE("moved sets: a plan's view and a rewrite plan stay valid when the checkpoint is moved") {
    const checkpoint_on_disk disk;
    auto opened = sf::checkpoint::open(disk.directory.string());
    REQUIRE(opened);
    const auto rewrite =
        sf::rewrite_plan::make(*opened, sf::description_of<sf::families::qwen2_moe>);
    REQUIRE(rewrite);
    const auto head = opened->view(0);
    REQUIRE(head);
    auto moved = std::make_unique<sf::checkpoint>(std::move(*opened));
    opened = sf::failure{.code = sf::errc::canceled};

    const auto plan = rewrite->plan_of(0);
    REQUIRE(plan);
    CHECK(fused(*plan) == disk.gate_up);
    CHECK(support::string_of(head->bytes()) == experts()[0].data);
    const support::temporary_directory out;
    REQUIRE(sf::rewrite(*rewrite, out.string(), {}));
    const auto written = sf::checkpoint::open(out.string());
    REQUIRE(written);
    CHECK(sf::verify_rewritten(*rewrite, *written));
}

TEST_CASE("moved sets: a plan of a tensor_list needs the tensors, not the list") {
    const std::vector<support::tensor> tensors = experts();
    std::vector<sf::named_tensor> named;
    for (const support::tensor& each : tensors) {
        const auto view =
            sf::tensor_view::of(sf::dtype::bf16, each.shape, support::bytes_of(each.data));
        REQUIRE(view);
        named.push_back({each.name, *view});
    }
    auto list = std::make_unique<sf::tensor_list>(named);
    const auto plan = sf::plan<sf::families::qwen2_moe>(*list, scope);
    REQUIRE(plan);
    list.reset();
    CHECK(fused(*plan) == tensors[0].data + tensors[1].data + tensors[3].data + tensors[4].data);
}

TEST_CASE("moved sets: a caller's set with a stable view may be moved") {
    const checkpoint_on_disk disk;
    auto opened = sf::checkpoint::open(disk.directory.string());
    REQUIRE(opened);
    auto set = std::make_unique<shared_set>(std::move(*opened));
    const auto plan = sf::plan<sf::families::qwen2_moe>(*set, scope);
    REQUIRE(plan);
    const shared_set moved{std::move(*set)};
    set.reset();
    CHECK(fused(*plan) == disk.gate_up);
}

TEST_CASE(
    "moved sets: a checkpoint that was moved from has no tensors, and planning from it says so") {
    const checkpoint_on_disk disk;
    auto opened = sf::checkpoint::open(disk.directory.string());
    REQUIRE(opened);
    const sf::checkpoint moved{std::move(*opened)};
    const sf::checkpoint& left = *opened;
    CHECK(left.size() == 0);
    CHECK(left.file_count() == 0);
    CHECK(left.unlisted_count() == 0);
    CHECK(left.index_path().empty());
    CHECK(left.index_of(scope + ".0.gate_proj.weight") == sf::checkpoint::npos);
    const auto none = left.find(scope + ".0.gate_proj.weight");
    REQUIRE_FALSE(none);
    CHECK(none.error().code == sf::errc::tensor_not_found);
    CHECK(sf::tensor_set_ref{left}.size() == 0);
    const auto plan = sf::plan<sf::families::qwen2_moe>(left, scope);
    REQUIRE_FALSE(plan);
    CHECK(plan.error().code == sf::errc::no_experts);
}
