// Plans and tensors fused into a device's memory. The device is that of memory_device.hpp, which
// copies as late as possible.
#include <safefuse/run/staged.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <safefuse/models/transformers.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/read/checkpoint.hpp>
#include <safefuse/run/fuse.hpp>
#include <safefuse/run/parallel.hpp>
#include <safefuse/tensor/tensor_set.hpp>

#include "../../support/laws.hpp"
#include "../../support/memory_device.hpp"
#include "../../support/support.hpp"

namespace sf = safefuse;
using laws::u64;
using sf::errc;
using support::device_faults;
using support::memory_device;

namespace {

using loader = sf::staged_loader<memory_device>;
using target = loader::target;

/// A set that many threads may use at once. One of its bytes may be unreadable.
struct shared_set {
    const laws::packed_set& whole;
    bool resident = true;
    u64 bad = ~u64{0};
    u64 held = ~u64{0};
    bool changed = false;

    std::size_t size() const noexcept { return whole.size(); }
    sf::tensor_spec spec(std::size_t i) const noexcept { return whole.spec(i); }
    sf::tensor_location place(std::size_t i) const noexcept { return whole.place(i); }
    std::string_view source_name(std::uint32_t) const noexcept { return "shared.safetensors"; }
    std::span<const std::byte> source_bytes(std::uint32_t source) const noexcept {
        const auto all = whole.held_bytes(source);
        return resident ? all.first(static_cast<std::size_t>(std::min<u64>(held, all.size())))
                        : std::span<const std::byte>{};
    }
    sf::result<void> read(std::uint32_t source, u64 offset,
                          std::span<std::byte> out) const noexcept {
        if (bad >= offset && bad < offset + out.size())
            return sf::failure{.code = errc::io_error, .file = "shared.safetensors", .offset = bad};
        return sf::memory_source{whole.held_bytes(source)}.read(offset, out);
    }
    sf::result<void> check(std::uint32_t) const noexcept {
        if (changed) return sf::failure{.code = errc::file_changed, .file = "shared.safetensors"};
        return {};
    }
};

template <class Set>
sf::copy_plan plan_of(const Set& set, laws::kind from, laws::kind to) {
    auto plan = sf::plan(set, "moe", laws::description(from), laws::description(to), {});
    REQUIRE(plan);
    return std::move(*plan);
}

std::vector<std::vector<std::byte>> fused(const sf::copy_plan& plan) {
    std::vector<std::vector<std::byte>> made;
    std::vector<std::span<std::byte>> spans;
    for (const sf::plan_output& each : plan.outputs())
        made.emplace_back(static_cast<std::size_t>(each.size_bytes));
    for (auto& each : made) spans.emplace_back(each);
    REQUIRE(sf::fuse(plan, spans));
    return made;
}

/// A device buffer for each output, with `before` bytes in front.
template <class Device>
std::vector<target> targets_of(Device& device, const sf::copy_plan& plan, u64 before = 0) {
    std::vector<target> out;
    for (const sf::plan_output& each : plan.outputs())
        out.push_back({device.allocate(static_cast<std::size_t>(before + each.size_bytes)), before,
                       each.size_bytes});
    return out;
}
std::vector<std::vector<std::byte>> contents(const memory_device& device,
                                             const std::vector<target>& targets) {
    std::vector<std::vector<std::byte>> out;
    for (const target& each : targets) {
        const auto& all = device.contents(each.to);
        out.emplace_back(all.begin() + static_cast<std::ptrdiff_t>(each.offset),
                         all.begin() + static_cast<std::ptrdiff_t>(each.offset + each.size_bytes));
    }
    return out;
}

/// Slabs of a few bytes, so that there are many fills.
sf::staging_options small(std::size_t slab_bytes, std::size_t slab_count,
                          u64 least_run_bytes = 32) {
    return {.slab_bytes = slab_bytes, .slab_count = slab_count, .least_run_bytes = least_run_bytes};
}

const auto in_line = [](std::size_t count, const sf::indexed_task& task) noexcept {
    for (std::size_t i = 0; i < count; ++i) task(i);
};

const laws::experts usual{.end_expert = 3,
                          .i_end = 128,
                          .h = 40,
                          .fields = {laws::field::weight, laws::field::bias, laws::field::scalar}};

}  // namespace

TEST_CASE("standing threads: every piece runs once, in call after call") {
    for (const std::size_t count : {0u, 1u, 2u, 5u}) {
        auto run = sf::standing_threads::make(count);
        REQUIRE(run);
        CHECK(run->count() == std::max<std::size_t>(count, 1));
        for (int round = 0; round < 50; ++round)
            for (const std::size_t pieces : {0u, 1u, 7u, 100u}) {
                std::vector<std::atomic<int>> times(pieces);
                sf::parallel_for(pieces, [&](std::size_t i) noexcept { ++times[i]; }, *run);
                CHECK(std::all_of(times.begin(), times.end(),
                                  [](const auto& each) { return each == 1; }));
            }
        sf::standing_threads moved = std::move(*run);
        std::atomic<int> sum{0};
        sf::parallel_for(10, [&](std::size_t) noexcept { ++sum; }, moved);
        CHECK(sum == 10);
    }
}

TEST_CASE("standing threads: two callers take turns") {
    auto pool = sf::standing_threads::make(3);
    REQUIRE(pool);
    std::atomic<int> sum{0};
    sf::parallel_for(
        2,
        [&](std::size_t) noexcept {
            for (int i = 0; i < 50; ++i)
                sf::parallel_for(10, [&](std::size_t) noexcept { ++sum; }, *pool);
        },
        sf::threads{2});
    CHECK(sum == 1000);
}

TEST_CASE(
    "staged: for every pair of layouts the bytes are those of fuse, with any slabs and readers") {
    auto pool = sf::standing_threads::make(4);
    REQUIRE(pool);
    for (const laws::kind from : laws::all_kinds) {
        const laws::packed_set held = laws::make_set(from, usual, "moe");
        for (const bool resident : {true, false}) {
            const shared_set set{held, resident};
            for (const laws::kind to : laws::all_kinds) {
                INFO(laws::spelled(from), " to ", laws::spelled(to),
                     resident ? " resident" : " read");
                const sf::copy_plan plan = plan_of(set, from, to);
                const auto expected = fused(plan);
                for (const auto& options :
                     {small(97, 2), small(700, 3), small(4096, 5, 1), small(100'000, 2, 100'000)}) {
                    memory_device device;
                    const auto targets = targets_of(device, plan, 24);
                    {
                        auto load = loader::make(device, options);
                        REQUIRE(load);
                        CHECK(load->fuse(plan, targets, *pool));
                        CHECK(load->finish());
                        CHECK(device.pending_copies() == 0);
                        CHECK(contents(device, targets) == expected);
                        CHECK(device.copied_bytes == plan.size_bytes());
                    }
                    CHECK(device.misuses == 0);
                    CHECK(device.held_staging_bytes == 0);
                }
            }
        }
    }
}

TEST_CASE(
    "staged: slabs whose copies are done are filled again first, in any order that the device "
    "finishes") {
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, usual, "moe");
    const shared_set set{held};
    for (const laws::kind to : {laws::kind::gate_up, laws::kind::transposed})
        for (const std::size_t asks : {1u, 2u, 3u, 7u})
            for (const std::size_t readers : {1u, 4u}) {
                const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, to);
                memory_device device{{.arrive_when_asked = asks}};
                auto load = loader::make(device, small(3000, 6));
                REQUIRE(load);
                for (int round = 0; round < 3; ++round) {
                    const auto targets = targets_of(device, plan);
                    CHECK(load->fuse(plan, targets, sf::threads{readers}));
                    CHECK(load->finish());
                    CHECK(contents(device, targets) == fused(plan));
                }
                if (asks == 1) CHECK(device.waits < device.marks);
                CHECK(device.misuses == 0);
            }
}

TEST_CASE("staged: matrices are transposed some rows at a time, with any shape") {
    for (const auto& [rows, columns] :
         {std::pair<u64, u64>{300, 1000}, {33, 7000}, {1500, 40}, {64, 9000}}) {
        laws::packed_set held;
        for (u64 e = 0; e < 2; ++e) {
            const std::string name = "moe." + std::to_string(e);
            held.add(name + ".gate_proj.weight", sf::dtype::bf16, {rows, columns});
            held.add(name + ".up_proj.weight", sf::dtype::bf16, {rows, columns});
            held.add(name + ".down_proj.weight", sf::dtype::bf16, {columns, rows});
        }
        for (const bool resident : {true, false}) {
            const shared_set set{held, resident};
            const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, laws::kind::transposed);
            for (const std::size_t slab_bytes : {std::size_t{100'000}, std::size_t{3} << 20}) {
                memory_device device;
                auto load = loader::make(device, small(slab_bytes, 3, 4096));
                REQUIRE(load);
                const auto targets = targets_of(device, plan);
                CHECK(load->fuse(plan, targets, sf::threads{2}));
                CHECK(load->finish());
                CHECK(contents(device, targets) == laws::execute(plan, held).outputs);
            }
        }
    }
}

TEST_CASE(
    "staged: slabs are kept from plan to plan, and calls return while the device still copies") {
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, usual, "moe");
    const shared_set set{held};
    const sf::copy_plan first = plan_of(set, laws::kind::per_expert, laws::kind::gate_up);
    const sf::copy_plan second = plan_of(set, laws::kind::per_expert, laws::kind::columns_in_turn);
    memory_device device;
    auto load = loader::make(device, small(4096, 3));
    REQUIRE(load);
    CHECK(load->slab_count() == 3);
    CHECK(load->staging_bytes() == 3 * 4096);
    std::vector<std::pair<std::vector<target>, std::vector<std::vector<std::byte>>>> all;
    for (int round = 0; round < 4; ++round) {
        const sf::copy_plan& plan = round % 2 == 0 ? first : second;
        all.emplace_back(targets_of(device, plan), fused(plan));
        CHECK(load->fuse(plan, all.back().first, sf::threads{2}));
        CHECK(device.pending_copies() > 0);
    }
    CHECK(device.allocations == 3);
    CHECK(load->finish());
    CHECK(device.pending_copies() == 0);
    for (const auto& [targets, expected] : all) CHECK(contents(device, targets) == expected);
}

TEST_CASE("staged: several plans with separate sets run in one call, and may share a slab") {
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, usual, "moe");
    const laws::packed_set other = laws::make_set(laws::kind::gate_up, usual, "moe");
    auto pool = sf::standing_threads::make(3);
    REQUIRE(pool);
    for (const bool resident : {true, false}) {
        const shared_set set{held, resident}, second{other, resident};
        std::vector<sf::copy_plan> plans;
        plans.push_back(plan_of(set, laws::kind::per_expert, laws::kind::gate_up));
        plans.push_back(plan_of(second, laws::kind::gate_up, laws::kind::transposed));
        plans.push_back(plan_of(set, laws::kind::per_expert, laws::kind::columns_in_turn));
        for (const std::size_t slab_bytes :
             {std::size_t{700}, std::size_t{4096}, std::size_t{1} << 20}) {
            memory_device device;
            auto load = loader::make(device, small(slab_bytes, 4));
            REQUIRE(load);
            std::vector<std::vector<target>> targets;
            std::vector<loader::planned> all;
            for (const sf::copy_plan& each : plans) targets.push_back(targets_of(device, each, 8));
            for (std::size_t i = 0; i < plans.size(); ++i) all.push_back({&plans[i], targets[i]});
            const auto made = load->fuse(all, *pool);
            REQUIRE(made);
            CHECK(made->count == plans[0].outputs().size() + plans[1].outputs().size() +
                                     plans[2].outputs().size());
            CHECK(load->wait(*made, made->count - 1));
            CHECK(load->finish());
            for (std::size_t i = 0; i < plans.size(); ++i)
                CHECK(contents(device, targets[i]) == fused(plans[i]));
            if (slab_bytes > 700'000) CHECK(device.marks == 1);
            CHECK(device.misuses == 0);
            targets[2].pop_back();
            all[2].targets = targets[2];
            CHECK(load->fuse(all, *pool).error().code == errc::wrong_buffer_size);
        }
    }
}

TEST_CASE("staged: long runs are one copy each, and outputs of short runs one for each slab") {
    const laws::experts x{.end_expert = 4, .i_end = 128, .h = 32};  // matrices of 8192 bytes
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, x, "moe");
    const shared_set set{held};
    const auto copies = [&](laws::kind to, const sf::staging_options& options) {
        memory_device device;
        auto load = loader::make(device, options);
        REQUIRE(load);
        const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, to);
        CHECK(load->fuse(plan, targets_of(device, plan), in_line));
        return std::pair{device.copies, device.marks};
    };
    CHECK(copies(laws::kind::gate_up, small(8192, 4, 1024)) ==
          std::pair<std::size_t, std::size_t>{12, 12});
    // gate and up of an expert are contiguous on both sides: one run of two slabs
    CHECK(copies(laws::kind::gate_up, small(16384, 4, 1024)) ==
          std::pair<std::size_t, std::size_t>{8, 8});
    CHECK(copies(laws::kind::gate_up, small(24576, 4, 1024)) ==
          std::pair<std::size_t, std::size_t>{8, 4});
    CHECK(copies(laws::kind::rows_1, small(16384, 4, 1024)).second == 6);
    CHECK(copies(laws::kind::transposed, small(16384, 4, 1024)) ==
          std::pair<std::size_t, std::size_t>{6, 6});
}

TEST_CASE("staged: a device that takes all copies of a slab at once gets them so") {
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, usual, "moe");
    const shared_set set{held};
    const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, laws::kind::gate_up);
    support::batching_device device;
    auto load = sf::staged_loader<support::batching_device>::make(device, small(30'000, 2));
    REQUIRE(load);
    const auto targets = targets_of(device, plan);
    CHECK(load->fuse(plan, targets, sf::threads{2}));
    CHECK(load->finish());
    CHECK(contents(device, targets) == fused(plan));
    CHECK(device.batches == device.marks);
    CHECK(device.copies > device.batches);
}

TEST_CASE(
    "staged: tensors are copied as they are, small ones in one slab, in the order of their "
    "sources") {
    laws::packed_set held;
    for (int i = 0; i < 20; ++i)
        held.add("norm." + std::to_string(i), sf::dtype::bf16, {static_cast<u64>(i), 3});
    held.add("embed", sf::dtype::f32, {50, 60});
    for (const bool resident : {true, false}) {
        const shared_set set{held, resident};
        memory_device device;
        auto load = loader::make(device, small(4096, 3));
        REQUIRE(load);
        std::vector<loader::tensor> wanted;
        for (std::uint32_t i = 21; i-- > 0;) {
            const u64 size_bytes = held.place(i).size_bytes;
            wanted.push_back(
                {i, {device.allocate(static_cast<std::size_t>(size_bytes)), 0, size_bytes}});
        }
        CHECK(load->load(set, wanted, sf::threads{3}));
        CHECK(load->finish());
        for (const auto& each : wanted) {
            const auto expected = held.bytes_of(held.spec(each.tensor).name);
            const auto& made = device.contents(each.target.to);
            CHECK(std::equal(made.begin(), made.end(), expected.begin(), expected.end()));
        }
        CHECK(device.marks == 4);
        CHECK(device.misuses == 0);
    }
}

TEST_CASE("staged: the shares of all ranks together are the output, each byte once") {
    for (const laws::kind to : {laws::kind::gate_up, laws::kind::rows_2, laws::kind::transposed}) {
        const laws::packed_set held = laws::make_set(laws::kind::per_expert, usual, "moe");
        const shared_set set{held};
        const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, to);
        const auto expected = fused(plan);
        for (const u64 ranks : {1u, 2u, 3u, 7u}) {
            memory_device device;
            auto load = loader::make(device, small(1000, 3));
            REQUIRE(load);
            std::vector<memory_device::destination> buffers;
            for (const sf::plan_output& each : plan.outputs())
                buffers.push_back(device.allocate(static_cast<std::size_t>(
                    ranks * sf::share_of(each.size_bytes, 0, ranks, 64).stride_bytes)));
            for (u64 rank = 0; rank < ranks; ++rank) {
                std::vector<target> targets;
                for (std::size_t i = 0; i < buffers.size(); ++i) {
                    const sf::byte_share share =
                        sf::share_of(plan.outputs()[i].size_bytes, rank, ranks, 64);
                    targets.push_back({buffers[i], share.begin, share.size_bytes, share.begin});
                }
                CHECK(load->fuse(plan, targets, sf::threads{2}));
            }
            CHECK(load->finish());
            CHECK(device.copied_bytes == plan.size_bytes());
            for (std::size_t i = 0; i < buffers.size(); ++i)
                CHECK(std::equal(expected[i].begin(), expected[i].end(),
                                 device.contents(buffers[i]).begin()));
        }
    }
}

TEST_CASE("staged: shares are of one stride and cover every byte once") {
    for (const u64 size :
         {0ull, 1ull, 4095ull, 4096ull, 4097ull, 1'000'000ull, ~0ull - (1ull << 20)})
        for (const u64 ranks : {1u, 2u, 3u, 8u, 64u}) {
            u64 end = 0;
            for (u64 rank = 0; rank < ranks; ++rank) {
                const sf::byte_share share = sf::share_of(size, rank, ranks);
                CHECK(share.begin == end);
                CHECK(share.stride_bytes % 4096 == 0);
                CHECK(share.size_bytes <= share.stride_bytes);
                end += share.size_bytes;
            }
            CHECK(end == size);
        }
}

TEST_CASE("staged: the caller, or a stream of the caller's, can wait for one output") {
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, usual, "moe");
    const shared_set set{held};
    const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, laws::kind::gate_up);
    const auto expected = fused(plan);
    for (std::size_t i = 0; i < plan.outputs().size(); ++i) {
        memory_device device;
        auto load = loader::make(device, small(5000, 40));
        REQUIRE(load);
        const auto targets = targets_of(device, plan);
        const auto outputs = load->fuse(plan, targets, sf::threads{2});
        REQUIRE(outputs);
        CHECK(outputs->count == plan.outputs().size());
        const auto ready = load->is_ready(*outputs, i);
        REQUIRE(ready);
        CHECK_FALSE(*ready);
        std::vector<memory_device::ticket> stream;
        if (i % 2 == 0) {
            CHECK(load->wait(*outputs, i));
        } else {
            CHECK(load->let_wait(&stream, *outputs, i));
            CHECK(device.waits == 0);
            device.run(stream);
        }
        CHECK(*load->is_ready(*outputs, i));
        CHECK(contents(device, targets)[i] == expected[i]);
        CHECK(device.pending_copies() > 0);
    }
}

TEST_CASE("staged: outputs without bytes are skipped") {
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, usual, "moe");
    const shared_set set{held};
    const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, laws::kind::gate_up);
    memory_device device;
    auto load = loader::make(device, small(4096, 2));
    REQUIRE(load);
    auto targets = targets_of(device, plan);
    targets[0].size_bytes = 0;
    CHECK(load->fuse(plan, targets, in_line));
    CHECK(load->finish());
    CHECK(device.contents(targets[0].to)[0] == std::byte{0xEE});
    CHECK(contents(device, targets)[1] == fused(plan)[1]);
    for (target& each : targets) each.size_bytes = 0;
    CHECK(load->fuse(plan, targets, in_line));
}

TEST_CASE(
    "staged: targets that do not fit are refused before anything is copied, with the output's "
    "name") {
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, usual, "moe");
    const shared_set set{held};
    const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, laws::kind::gate_up);
    memory_device device;
    auto load = loader::make(device, small(4096, 2));
    REQUIRE(load);
    const auto targets = targets_of(device, plan);
    const auto refused = [&](std::vector<target> wrong) {
        auto done = load->fuse(plan, wrong, in_line);
        REQUIRE_FALSE(done);
        CHECK(device.copies == 0);
        return std::move(done).error();
    };
    auto wrong = targets;
    wrong.pop_back();
    CHECK(refused(wrong).code == errc::wrong_buffer_size);
    wrong = targets;
    --wrong[1].size_bytes;
    CHECK(refused(wrong).code == errc::wrong_buffer_size);
    CHECK(refused(wrong).tensor == plan.outputs()[1].name);
    CHECK(refused(wrong).expected == plan.outputs()[1].size_bytes);
    wrong = targets;
    wrong[1].begin = 1;
    CHECK(refused(wrong).code == errc::out_of_range);
    wrong[1].begin = ~u64{0} - 1;
    CHECK(refused(wrong).code == errc::out_of_range);
    wrong = targets;
    wrong[0].offset = ~u64{0};
    CHECK(refused(wrong).code == errc::size_overflow);
    const loader::tensor nobody[] = {{static_cast<std::uint32_t>(set.size()), targets[0]}};
    CHECK(load->load(set, nobody, in_line).error().code == errc::tensor_not_found);
    const loader::tensor shorter[] = {{0, {targets[0].to, 0, 1}}};
    CHECK(load->load(set, shorter, in_line).error().code == errc::wrong_buffer_size);
    CHECK(load->fuse(plan, targets, in_line));
}

TEST_CASE("staged: tensors that must be equal are compared before anything is copied") {
    for (const bool same : {true, false}) {
        laws::packed_set held;
        const std::vector<std::byte> indexes(256 * 4, std::byte{1});
        for (u64 e = 0; e < 2; ++e)
            for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
                const bool is_down = part[0] == 'd';
                const u64 in = is_down ? 128 : 256, out = is_down ? 256 : 128;
                const std::string name = "moe." + std::to_string(e) + "." + part;
                held.add(name + ".qweight", sf::dtype::i32, {in / 8, out});
                held.add(name + ".qzeros", sf::dtype::i32, {in / 128, out / 8});
                held.add(name + ".scales", sf::dtype::f16, {in / 128, out});
                if (same)
                    held.add(name + ".g_idx", sf::dtype::i32, {in},
                             std::span{indexes}.first(static_cast<std::size_t>(in * 4)));
                else
                    held.add(name + ".g_idx", sf::dtype::i32, {in});
            }
        for (const bool resident : {true, false}) {
            const shared_set set{held, resident};
            const auto plan = sf::plan<sf::families::qwen2_moe>(set, "moe");
            REQUIRE(plan);
            REQUIRE(!plan->equal_blocks().empty());
            memory_device device;
            auto load = loader::make(device, small(3000, 3));
            REQUIRE(load);
            auto targets = targets_of(device, *plan);
            auto done = load->fuse(*plan, targets, sf::threads{2});
            CHECK(done.has_value() == same);
            if (same) {
                CHECK(load->finish());
                CHECK(contents(device, targets) == fused(*plan));
                continue;
            }
            CHECK(done.error().code == errc::parts_differ);
            CHECK(device.copies == 0);
            for (std::size_t i = 0; i < targets.size(); ++i)
                if (plan->outputs()[i].name == done.error().tensor.view())
                    targets[i].size_bytes = 0;
            CHECK(load->fuse(*plan, targets, sf::threads{2}));
        }
    }
}

TEST_CASE("staged: staging memory has a hard cap, and options without memory are refused") {
    memory_device device;
    const auto code = [&](const sf::staging_options& options) {
        return loader::make(device, options).error().code;
    };
    CHECK(code({.slab_bytes = 0}) == errc::out_of_range);
    CHECK(code({.slab_count = 0}) == errc::out_of_range);
    CHECK(code({.slab_bytes = std::size_t{64} << 20, .slab_count = 3}) == errc::out_of_range);
    CHECK(code({.slab_bytes = ~std::size_t{0}, .slab_count = ~std::size_t{0}}) ==
          errc::out_of_range);
    CHECK(code({.slab_bytes = 4096, .slab_count = 2, .most_bytes = 8191}) == errc::out_of_range);
    CHECK(device.allocations == 0);
    const sf::staging_options usual_options;
    CHECK(usual_options.slab_bytes * usual_options.slab_count <= usual_options.most_bytes);
    CHECK(usual_options.most_bytes == std::size_t{128} << 20);
}

TEST_CASE(
    "staged: if the device refuses memory, the loader uses what it got, or fails and holds "
    "nothing") {
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, usual, "moe");
    const shared_set set{held};
    const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, laws::kind::gate_up);
    for (std::size_t given = 0; given < 5; ++given) {
        memory_device device{{.refuse_staging_from = given}};
        {
            auto load = loader::make(device, small(1000, 8));
            CHECK(load.has_value() == (given >= 2));
            if (!load) {
                CHECK(load.error().code == errc::out_of_memory);
                CHECK(device.held_staging_bytes == 0);
                continue;
            }
            CHECK(load->slab_count() == given);
            const auto targets = targets_of(device, plan);
            CHECK(load->fuse(plan, targets, sf::threads{4}));
            CHECK(load->finish());
            CHECK(contents(device, targets) == fused(plan));
        }
        CHECK(device.held_staging_bytes == 0);
        CHECK(device.misuses == 0);
    }
    memory_device misaligned{{.misaligned_staging = true}}, too_short{{.short_staging = true}};
    CHECK(loader::make(misaligned, small(1000, 2)).error().code == errc::misaligned);
    CHECK(loader::make(too_short, small(1000, 2)).error().code == errc::wrong_buffer_size);
    CHECK(misaligned.held_staging_bytes == 0);
    CHECK(too_short.held_staging_bytes == 0);
}

namespace {

/// A device that prepares tickets when the loader is made.
class preparing_device : public memory_device {
public:
    explicit preparing_device(std::size_t failing) : failing_{failing} {}
    sf::result<void> prepare(ticket&) noexcept {
        if (prepared++ == failing_)
            return sf::failure{.code = errc::device_failed, .detail = "prepare"};
        return {};
    }
    std::size_t prepared = 0;

private:
    std::size_t failing_;
};

}  // namespace

TEST_CASE("staged: tickets are created once, with the loader; if that fails nothing is held") {
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, usual, "moe");
    const shared_set set{held};
    const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, laws::kind::gate_up);
    preparing_device device{99};
    auto load = sf::staged_loader<preparing_device>::make(device, small(5000, 3));
    REQUIRE(load);
    for (int round = 0; round < 2; ++round)
        CHECK(load->fuse(plan, targets_of(device, plan), sf::threads{2}));
    CHECK(load->finish());
    CHECK(device.prepared == 3);
    CHECK(device.allocations == 3);
    preparing_device refusing{1};
    CHECK(sf::staged_loader<preparing_device>::make(refusing, small(5000, 3)).error().code ==
          errc::device_failed);
    CHECK(refusing.held_staging_bytes == 0);
}

TEST_CASE(
    "staged: a device that takes batches gets some slabs at once while it has others to copy from, "
    "and all bytes arrive") {
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, usual, "moe");
    const shared_set set{held};
    for (const laws::kind to : {laws::kind::gate_up, laws::kind::rows_1, laws::kind::transposed})
        for (const std::size_t readers : {1u, 4u})
            for (const std::size_t slab_count : {2u, 8u, 17u, 100u}) {
                CAPTURE(readers);
                CAPTURE(slab_count);
                const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, to);
                support::batching_device device;
                auto load = sf::staged_loader<support::batching_device>::make(
                    device, small(1000, slab_count));
                REQUIRE(load);
                for (int round = 0; round < 3; ++round) {
                    const auto targets = targets_of(device, plan);
                    const auto done = load->fuse(plan, targets, sf::threads{readers});
                    REQUIRE(done);
                    for (std::size_t i = 0; i < targets.size(); ++i) CHECK(load->wait(*done, i));
                    CHECK(device.pending_copies() == 0);
                    CHECK(contents(device, targets) == fused(plan));
                }
                const std::size_t slabs_at_once = slab_count / 8 < 8 ? slab_count / 8 + 1 : 8;
                CHECK(device.batches * slabs_at_once >= device.marks);
                CHECK((device.batches < device.marks) == (slab_count >= 8));
                CHECK(device.misuses == 0);
            }
}

TEST_CASE(
    "staged: a batch that fails names a tensor and leaves no copy pending; the loader stays "
    "usable") {
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, usual, "moe");
    const shared_set set{held};
    const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, laws::kind::gate_up);
    const auto expected = fused(plan);
    for (const std::size_t readers : {1u, 3u})
        for (std::size_t failing = 0; failing < 40; ++failing) {
            support::batching_device device{{.fail_copy = failing}};
            {
                auto load =
                    sf::staged_loader<support::batching_device>::make(device, small(3000, 16));
                REQUIRE(load);
                const auto targets = targets_of(device, plan);
                auto done = load->fuse(plan, targets, sf::threads{readers});
                REQUIRE_FALSE(done);
                CHECK(done.error().code == errc::device_failed);
                CHECK(!done.error().tensor.empty());
                CHECK(device.pending_copies() == 0);
                CHECK(load->fuse(plan, targets, sf::threads{readers}));
                CHECK(load->finish());
                CHECK(contents(device, targets) == expected);
            }
            CHECK(device.held_staging_bytes == 0);
            CHECK(device.misuses == 0);
        }
}

TEST_CASE("staged: a copy that fails names the tensor of that copy, not of its slab") {
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, usual, "moe");
    const shared_set set{held};
    std::vector<sf::staged_tensor<memory_device::destination>> all;
    for (std::size_t failing = 0; failing < 3; ++failing) {
        memory_device device{{.fail_copy = failing}};
        auto load = loader::make(device, small(1 << 20, 2));
        REQUIRE(load);
        all.clear();
        for (std::uint32_t i = 0; i < 3; ++i) {
            const auto size = static_cast<std::size_t>(set.place(i).size_bytes);
            all.push_back({i, {device.allocate(size), 0, size}});
        }
        auto done = load->load(set, all, in_line);
        REQUIRE_FALSE(done);
        std::vector<std::uint32_t> order{0, 1, 2};
        std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
            return set.place(a).offset < set.place(b).offset;
        });
        CHECK(done.error().tensor == set.spec(order[failing]).name);
    }
}

TEST_CASE(
    "staged: a copy that fails midway names its tensor and leaves no copy pending; the loader "
    "stays usable") {
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, usual, "moe");
    const shared_set set{held};
    const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, laws::kind::gate_up);
    const auto expected = fused(plan);
    for (const std::size_t readers : {1u, 3u})
        for (std::size_t failing = 0; failing < 12; ++failing) {
            memory_device device{{.fail_copy = failing}};
            {
                auto load = loader::make(device, small(9000, 4));
                REQUIRE(load);
                const auto targets = targets_of(device, plan);
                auto done = load->fuse(plan, targets, sf::threads{readers});
                REQUIRE_FALSE(done);
                CHECK(done.error().code == errc::device_failed);
                const bool is_named = done.error().tensor == plan.outputs()[0].name ||
                                      done.error().tensor == plan.outputs()[1].name ||
                                      plan.output(done.error().tensor.view().substr(4)).has_value();
                CHECK(is_named);
                CHECK(device.pending_copies() == 0);
                CHECK(load->fuse(plan, targets, sf::threads{readers}));
                CHECK(load->finish());
                CHECK(contents(device, targets) == expected);
            }
            CHECK(device.held_staging_bytes == 0);
            CHECK(device.misuses == 0);
        }
}

TEST_CASE(
    "staged: the failure of reads is the first in the order of the plan, with any number of "
    "readers") {
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, usual, "moe");
    for (const laws::kind to : {laws::kind::gate_up, laws::kind::transposed})
        for (u64 bad = 5; bad < held.held_bytes(0).size(); bad += 3001) {
            const shared_set set{held, false, bad};
            const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, to);
            std::string first;
            for (const std::size_t readers : {1u, 2u, 8u}) {
                memory_device device;
                auto load = loader::make(device, small(3000, 4));
                REQUIRE(load);
                auto done = load->fuse(plan, targets_of(device, plan), sf::threads{readers});
                REQUIRE_FALSE(done);
                CHECK(done.error().code == errc::io_error);
                CHECK(done.error().offset == bad);
                CHECK(!done.error().tensor.empty());
                CHECK(device.pending_copies() == 0);
                if (readers == 1) first = done.error().message().view();
                CHECK(done.error().message().view() == first);
            }
        }
}

TEST_CASE("staged: sources that are shorter than they were, or changed, are failures") {
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, usual, "moe");
    for (const laws::kind to : {laws::kind::gate_up, laws::kind::transposed}) {
        memory_device device;
        auto load = loader::make(device, small(3000, 4));
        REQUIRE(load);
        shared_set cut_short{held, true, ~u64{0}, held.held_bytes(0).size() / 2};
        const sf::copy_plan plan = plan_of(cut_short, laws::kind::per_expert, to);
        CHECK(load->fuse(plan, targets_of(device, plan), sf::threads{2}).error().code ==
              errc::read_past_end);
        shared_set changed{held};
        const sf::copy_plan other = plan_of(changed, laws::kind::per_expert, to);
        changed.changed = true;
        CHECK(load->fuse(other, targets_of(device, other), sf::threads{2}).error().code ==
              errc::file_changed);
        CHECK(device.pending_copies() == 0);
    }
}

TEST_CASE(
    "staged: a ticket that never completes ends the loader; its slab is neither filled again "
    "nor freed") {
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, usual, "moe");
    const shared_set set{held};
    const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, laws::kind::gate_up);
    for (const std::size_t readers : {1u, 4u})
        for (std::size_t failing = 0; failing < 8; ++failing) {
            memory_device device{{.fail_wait = failing}};
            std::size_t pending = 0;
            {
                auto load = loader::make(device, small(5000, 3));
                REQUIRE(load);
                auto done = load->fuse(plan, targets_of(device, plan), sf::threads{readers});
                REQUIRE_FALSE(done);
                CHECK(done.error().code == errc::device_failed);
                CHECK(!done.error().tensor.empty());
                pending = device.pending_copies();
                CHECK(pending > 0);
                const std::size_t copies = device.copies;
                auto again = load->fuse(plan, targets_of(device, plan), sf::threads{readers});
                REQUIRE_FALSE(again);
                CHECK(again.error().code == errc::device_failed);
                CHECK(device.copies == copies);
                CHECK_FALSE(load->finish());
                CHECK_FALSE(load->is_ready({1, 2}, 0));  // cannot be told any more
                CHECK_FALSE(load->wait({1, 2}, 0));
                std::vector<memory_device::ticket> stream;
                CHECK_FALSE(load->let_wait(&stream, {1, 2}, 0));
            }
            CHECK(device.held_staging_bytes > 0);
            CHECK(device.pending_copies() == pending);
            CHECK(device.misuses == 0);
        }
}

TEST_CASE("staged: a mark that fails ends the loader, because nobody can wait for that slab") {
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, usual, "moe");
    const shared_set set{held};
    const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, laws::kind::gate_up);
    for (std::size_t failing = 0; failing < 6; ++failing) {
        memory_device device{{.fail_mark = failing}};
        {
            auto load = loader::make(device, small(5000, 3));
            REQUIRE(load);
            auto done = load->fuse(plan, targets_of(device, plan), sf::threads{4});
            REQUIRE_FALSE(done);
            CHECK(done.error().code == errc::device_failed);
            CHECK(!done.error().tensor.empty());
            CHECK_FALSE(load->fuse(plan, targets_of(device, plan), in_line));
        }
        CHECK(device.held_staging_bytes == 5000);  // the slab whose copies cannot be waited for
        CHECK(device.misuses == 0);
    }
}

TEST_CASE(
    "staged: progress is called by one thread at a time, grows to the total, and can cancel") {
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, usual, "moe");
    const shared_set set{held};
    const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, laws::kind::gate_up);
    memory_device device;
    auto load = loader::make(device, small(3000, 4));
    REQUIRE(load);
    const auto targets = targets_of(device, plan);
    u64 before = 0;
    const auto watch = [&](const sf::run_progress& at) {
        CHECK(at.done_bytes > before);
        CHECK(at.total_bytes == plan.size_bytes());
        before = at.done_bytes;
        return true;
    };
    CHECK(load->fuse(plan, targets, sf::threads{3}, watch));
    CHECK(before == plan.size_bytes());
    int calls = 0;
    const auto cancel = [&](const sf::run_progress&) { return ++calls < 3; };
    auto done = load->fuse(plan, targets, sf::threads{3}, cancel);
    REQUIRE_FALSE(done);
    CHECK(done.error().code == errc::canceled);
    CHECK(calls == 3);
    CHECK(device.pending_copies() == 0);
    CHECK(load->fuse(plan, targets, sf::threads{3}));
}

TEST_CASE("staged: an executor that skips pieces, or runs them twice, does no harm") {
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, usual, "moe");
    const shared_set set{held};
    const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, laws::kind::gate_up);
    memory_device device;
    auto load = loader::make(device, small(3000, 4));
    REQUIRE(load);
    const auto nobody = [](std::size_t, const sf::indexed_task&) noexcept {};
    const auto twice = [](std::size_t count, const sf::indexed_task& task) noexcept {
        for (std::size_t i = 0; i < count; ++i) task(i), task(i);
    };
    const auto targets = targets_of(device, plan);
    CHECK(load->fuse(plan, targets, nobody));
    CHECK(load->finish());
    CHECK(contents(device, targets) == fused(plan));
    const auto others = targets_of(device, plan);
    CHECK(load->fuse(plan, others, twice));
    CHECK(load->finish());
    CHECK(contents(device, others) == fused(plan));
}

TEST_CASE("staged: two loaders with a device each share the sources") {
    const laws::packed_set held = laws::make_set(laws::kind::per_expert, usual, "moe");
    const shared_set set{held, false};
    const sf::copy_plan plan = plan_of(set, laws::kind::per_expert, laws::kind::rows_2);
    const auto expected = fused(plan);
    memory_device devices[2];
    std::vector<std::vector<std::byte>> made[2];
    sf::parallel_for(
        2,
        [&](std::size_t i) noexcept {
            auto load = loader::make(devices[i], small(3000, 4));
            if (!load) return;
            const auto targets = targets_of(devices[i], plan);
            if (load->fuse(plan, targets, sf::threads{2}) && load->finish())
                made[i] = contents(devices[i], targets);
        },
        sf::threads{2});
    CHECK(made[0] == expected);
    CHECK(made[1] == expected);
}

TEST_CASE(
    "staged: a checkpoint on disk, mapped and read, with all its tensors through one loader") {
    const support::temporary_directory directory;
    std::vector<support::tensor> tensors;
    for (int e = 0; e < 4; ++e)
        for (const char* part : {"gate_proj", "up_proj", "down_proj"})
            tensors.push_back(support::bf16(
                "model.layers.0.mlp.experts." + std::to_string(e) + "." + part + ".weight",
                part[0] == 'd' ? std::vector<u64>{512, 256} : std::vector<u64>{256, 512}));
    tensors.push_back(support::bf16("model.embed_tokens.weight", {300, 512}));
    tensors.push_back(support::bf16("model.norm.weight", {512}));
    std::sort(tensors.begin(), tensors.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    support::write_tensor_file(directory / "model.safetensors", tensors);
    auto pool = sf::standing_threads::make(3);
    REQUIRE(pool);
    const auto check = [&](const auto& checkpoint) {
        REQUIRE(checkpoint);
        const auto plan =
            sf::plan<sf::families::qwen2_moe>(*checkpoint, "model.layers.0.mlp.experts");
        REQUIRE(plan);
        memory_device device;
        auto load = loader::make(device, {.slab_bytes = 100'000, .slab_count = 5});
        REQUIRE(load);
        const auto targets = targets_of(device, *plan);
        std::vector<loader::tensor> dense;
        for (const char* name : {"model.embed_tokens.weight", "model.norm.weight"}) {
            const auto number = static_cast<std::uint32_t>(checkpoint->index_of(name));
            const u64 size_bytes = checkpoint->place(number).size_bytes;
            dense.push_back(
                {number, {device.allocate(static_cast<std::size_t>(size_bytes)), 0, size_bytes}});
        }
        CHECK(load->fuse(*plan, targets, *pool));
        CHECK(load->load(*checkpoint, dense, *pool));
        CHECK(load->finish());
        CHECK(contents(device, targets) == fused(*plan));
        for (const auto& each : dense) {
            std::vector<std::byte> expected(device.contents(each.target.to).size());
            CHECK(checkpoint->read(each.tensor, expected));
            CHECK(device.contents(each.target.to) == expected);
        }
        CHECK(device.misuses == 0);
    };
    check(sf::checkpoint::open(directory.string()));
    check(sf::basic_checkpoint<sf::positional_file>::open(directory.string()));
}
