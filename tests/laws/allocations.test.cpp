// Every allocation fails once, in every kind of run: from opening a checkpoint to writing and
// comparing one. faults.test.cpp "memory: ..." checks the OS's limit; here each allocation fails by
// its number, under the sanitizers, too.
#include "../support/failing_allocations.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <safefuse/detect/detect.hpp>
#include <safefuse/detect/find_model.hpp>
#include <safefuse/plan/plan_form.hpp>
#include <safefuse/read/checkpoint.hpp>
#include <safefuse/run/fuse.hpp>
#include <safefuse/run/fuse_model.hpp>
#include <safefuse/run/fuse_range.hpp>
#include <safefuse/run/parallel.hpp>
#include <safefuse/run/staged.hpp>
#include <safefuse/write/rewrite.hpp>
#include <safefuse/write/verify.hpp>

#include "../support/memory_device.hpp"
#include "../support/support.hpp"

namespace sf = safefuse;
using support::failing_allocation;
using support::memory_device;
using support::temporary_directory;

namespace {

constexpr sf::rewrite_options in_shards{.max_shard_bytes = 700, .wait = sf::durability::renamed};
constexpr std::string_view scope = "model.layers.1.mlp.experts";
using bytes = std::vector<std::byte>;

/// Two layers of three experts in two shards, as the hub stores them.
void write_model(const std::string& directory) {
    std::filesystem::create_directories(directory);
    std::vector<support::shard> shards;
    for (std::uint64_t layer = 0; layer < 2; ++layer) {
        const std::string prefix = "model.layers." + std::to_string(layer) + ".mlp.";
        std::vector<support::tensor> tensors{support::bf16(prefix + "gate.weight", {3, 6})};
        for (int e = 0; e < 3; ++e)
            for (const char* part : {"gate_proj", "up_proj", "down_proj"})
                tensors.push_back(support::bf16(
                    prefix + "experts." + std::to_string(e) + '.' + part + ".weight",
                    std::string_view{part} == "down_proj" ? std::vector<std::uint64_t>{6, 4}
                                                          : std::vector<std::uint64_t>{4, 6}));
        shards.push_back(
            {std::string{sf::shard_name("model", layer + 1, 2).view()}, std::move(tensors)});
    }
    support::write_checkpoint(directory, shards);
}

/// Runs on two threads, or on fewer if there is no memory to start them.
void on_two(std::size_t count, const sf::indexed_task& task) { sf::threads{2}(count, task); }

/// Shards that exist are complete, and no hidden file is beside them. Returns the mistakes.
std::string half_built(const std::string& directory) {
    if (!std::filesystem::exists(directory)) return {};
    for (const auto& entry : std::filesystem::directory_iterator{directory}) {
        const std::string name = entry.path().filename().string();
        if (name == sf::writer_state_file) continue;
        if (name.starts_with('.')) return "left behind: " + name;
        if (name.ends_with(".safetensors") && !sf::tensor_file::open(entry.path().string()))
            return "half-built: " + name;
    }
    return {};
}

/// Runs with each allocation failing in turn, until there is no such allocation.
void fail_each(const std::function<sf::result<void>()>& run,
               const std::function<std::string(bool)>& left, failing_allocation::then what) {
    std::size_t number = 1, refused = 0;
    for (bool has_failed = true; has_failed; ++number) {
        CAPTURE(number);
        std::optional<sf::failure> error;
        {
            const failing_allocation fault{number, what};
            if (auto done = run(); !done) error = std::move(done).error();
            has_failed = fault.has_failed();
        }
        // an allocation that only prepares the text of a failure may fail without effect; then
        // everything must be right
        REQUIRE_MESSAGE((!error || (has_failed && error->code == sf::errc::out_of_memory)),
                        error->message().c_str());
        if (error) ++refused;
        REQUIRE(left(!error) == "");
    }
    CHECK(refused > (number - 2) / 2);
}

/// Opens, plans and fuses one by one, all at once, by ranges and on two threads. `made` has memory
/// for all of that.
template <class Source>
sf::result<void> read_and_fuse(const std::string& path, std::vector<bytes>& made) {
    auto set = sf::basic_checkpoint<Source>::open(path);
    if (!set) return std::move(set).error();
    auto plan = sf::plan<sf::families::qwen2_moe>(*set, scope);
    if (!plan) return std::move(plan).error();
    std::vector<std::span<std::byte>> buffers;
    for (std::size_t i = 0; i < plan->outputs().size(); ++i) {
        made.resize(plan->outputs().size());
        made[i].resize(static_cast<std::size_t>(plan->outputs()[i].size_bytes));
        buffers.emplace_back(made[i]);
        if (auto done = sf::fuse(*plan, plan->outputs()[i].local_name, buffers[i]); !done)
            return done;
        if (auto done = sf::fuse_range(*plan, i, 2, std::span{made[i]}.subspan(2, 40)); !done)
            return done;
    }
    if (auto done = sf::fuse(*plan, buffers); !done) return done;
    return sf::fuse(*plan, buffers, on_two);
}

/// Joins files that are opened one by one, and copies every other entry of a column.
sf::result<void> join_and_slice(const std::string& directory, std::span<const std::byte> json,
                                bytes& made) {
    const auto index = sf::shard_index::parse(json);
    if (!index) return index.error();
    std::vector<sf::any_tensor_file> files;
    for (std::size_t i = 0; i < index->file_count(); ++i) {
        const std::string path = directory + '/' + std::string{index->file(i)};
        auto file = sf::positional_tensor_file::open(path);
        if (!file) return std::move(file).error();
        auto any = sf::any_tensor_file::from(*std::move(file));
        if (!any) return std::move(any).error();
        files.push_back(*std::move(any));
    }
    const auto set = sf::any_checkpoint::from(*index, std::move(files));
    if (!set) return set.error();
    const sf::axis_range columns[] = {sf::all, sf::range(1, 5, 2)};
    made.resize(4 * 2 * 2);
    return set->read_slice(std::string{scope} + ".2.gate_proj.weight", columns, made);
}

/// Lists a model and makes all of it, then each layer by the form of the first.
template <class Source>
sf::result<void> load_model(const std::string& path, bytes& all, bytes& layers) {
    auto set = sf::basic_checkpoint<Source>::open(path);
    if (!set) return std::move(set).error();
    auto model = sf::find_model(*set, sf::description_of<sf::families::qwen2_moe>);
    if (!model) return std::move(model).error();
    all.resize(static_cast<std::size_t>(model->total_bytes()));
    layers.clear();
    std::size_t next = 0;
    const auto buffer_for = [&](const sf::model_tensor& tensor) {
        next += static_cast<std::size_t>(tensor.size_bytes);
        return std::span{all}.subspan(next - static_cast<std::size_t>(tensor.size_bytes),
                                      static_cast<std::size_t>(tensor.size_bytes));
    };
    if (auto done = sf::fuse(*model, buffer_for); !done) return done;
    auto first = model->plan_of(0);
    if (!first) return std::move(first).error();
    auto form = sf::plan_form::of(*first);
    if (!form) return std::move(form).error();
    for (const sf::experts_scope& each : model->scopes()) {
        auto plan = form->bind(*set, each);
        if (!plan) return std::move(plan).error();
        bytes made;
        const auto grown = [&](const sf::plan_output& output) -> bytes& {
            layers.insert(layers.end(), made.begin(), made.end());
            made.resize(static_cast<std::size_t>(output.size_bytes));
            return made;
        };
        if (auto done = sf::fuse(*plan, grown); !done) return done;
        layers.insert(layers.end(), made.begin(), made.end());
    }
    return {};
}

template <class Source>
sf::result<void> read_and_stage(const std::string& path, memory_device& device) {
    auto set = sf::basic_checkpoint<Source>::open(path);
    if (!set) return std::move(set).error();
    auto plan = sf::plan<sf::families::qwen2_moe>(*set, scope);
    if (!plan) return std::move(plan).error();
    auto load = sf::staged_loader<memory_device>::make(device, {.slab_bytes = 97, .slab_count = 3});
    if (!load) return std::move(load).error();
    std::vector<sf::staged_loader<memory_device>::target> targets;
    for (const sf::plan_output& output : plan->outputs())
        targets.push_back({device.allocate(static_cast<std::size_t>(output.size_bytes))});
    if (auto done = load->fuse(*plan, targets, on_two); !done) return std::move(done).error();
    return load->finish();
}

template <class Source>
sf::result<void> rewrite(const std::string& from, const std::string& to) {
    auto set = sf::basic_checkpoint<Source>::open(from);
    if (!set) return std::move(set).error();
    auto plan = sf::rewrite_plan::make(*set, sf::description_of<sf::families::qwen2_moe>);
    if (!plan) return std::move(plan).error();
    if (auto done = sf::rewrite(*plan, to, in_shards); !done) return std::move(done).error();
    return {};
}

sf::result<void> open_and_verify(const std::string& from, const std::string& to) {
    auto set = sf::checkpoint::open(from);
    if (!set) return std::move(set).error();
    auto plan = sf::rewrite_plan::make(*set, sf::description_of<sf::families::qwen2_moe>);
    if (!plan) return std::move(plan).error();
    auto out = sf::checkpoint::open(to);
    if (!out) return std::move(out).error();
    auto same = sf::verify_rewritten(*plan, *out);
    if (!same) return std::move(same).error();
    return {};
}

constexpr failing_allocation::then both[]{failing_allocation::then::only_this,
                                          failing_allocation::then::all_that_follow};

}  // namespace

TEST_CASE_TEMPLATE("allocations: any failure from open to fuse is out_of_memory, also on threads",
                   Source, sf::mapped_file, sf::positional_file) {
    const temporary_directory directory;
    write_model(directory / "in");
    std::vector<bytes> expected;
    REQUIRE(read_and_fuse<Source>(directory / "in", expected));
    for (const auto what : both) {
        std::vector<bytes> made;
        fail_each(
            [&] { return read_and_fuse<Source>(directory / "in", made); },
            [&](bool came) { return std::string{!came || made == expected ? "" : "other bytes"}; },
            what);
    }
}

TEST_CASE_TEMPLATE(
    "allocations: any failure from open to a loaded model and bound plans is out_of_memory", Source,
    sf::mapped_file, sf::positional_file) {
    const temporary_directory directory;
    write_model(directory / "in");
    bytes all, layers;
    REQUIRE(load_model<Source>(directory / "in", all, layers));
    for (const auto what : both) {
        bytes made, bound;
        fail_each([&] { return load_model<Source>(directory / "in", made, bound); },
                  [&](bool came) {
                      const bool same = made == all && bound == layers;
                      return std::string{!came || same ? "" : "other bytes"};
                  },
                  what);
    }
}

TEST_CASE_TEMPLATE(
    "allocations: any failure from open to a device's memory is out_of_memory; all staging "
    "memory is freed",
    Source, sf::mapped_file, sf::positional_file) {
    const temporary_directory directory;
    write_model(directory / "in");
    for (const auto what : both) {
        std::optional<memory_device> device;
        fail_each([&] { return read_and_stage<Source>(directory / "in", device.emplace()); },
                  [&](bool) {
                      const bool clean = device->misuses == 0 && device->held_staging_bytes == 0 &&
                                         device->pending_copies() == 0;
                      return std::string{clean ? "" : "the device is left with copies or memory"};
                  },
                  what);
    }
}

TEST_CASE_TEMPLATE(
    "allocations: any failure from open to rewritten shards is out_of_memory and leaves "
    "nothing half-built",
    Source, sf::mapped_file, sf::positional_file) {
    const temporary_directory directory;
    write_model(directory / "in");
    for (const auto what : both)
        fail_each(
            [&] { return rewrite<Source>(directory / "in", directory / "out"); },
            [&](bool came) {
                std::string wrong = half_built(directory / "out");
                // the last step may fail after all shards are in place
                if (came || sf::checkpoint::open(directory / "out"))
                    if (const auto same = open_and_verify(directory / "in", directory / "out");
                        !same)
                        wrong += same.error().message().c_str();
                std::filesystem::remove_all(directory / "out");
                return wrong;
            },
            what);
}

TEST_CASE("allocations: any failure while the caller's files are joined is out_of_memory") {
    const temporary_directory directory;
    write_model(directory / "in");
    const std::string json = support::read_file(directory / "in/model.safetensors.index.json");
    bytes expected;
    REQUIRE(join_and_slice(directory / "in", support::bytes_of(json), expected));
    for (const auto what : both) {
        bytes made;
        fail_each(
            [&] { return join_and_slice(directory / "in", support::bytes_of(json), made); },
            [&](bool came) { return std::string{!came || made == expected ? "" : "other bytes"}; },
            what);
    }
}

TEST_CASE("allocations: any failure while a file is made in memory is out_of_memory") {
    const bytes data(24);
    const std::vector<std::uint64_t> extents{2, 12};
    const sf::named_tensor tensors[] = {{"a", *sf::tensor_view::of(sf::dtype::u8, extents, data)},
                                        {"b", *sf::tensor_view::of(sf::dtype::u8, extents, data)}};
    for (const auto what : both)
        fail_each(
            [&]() -> sf::result<void> {
                auto file = sf::encode_tensor_file(tensors);
                if (!file) return std::move(file).error();
                return {};
            },
            [](bool) { return std::string{}; }, what);
}

TEST_CASE("allocations: any failure while a rewrite is compared is out_of_memory") {
    const temporary_directory directory;
    write_model(directory / "in");
    REQUIRE(rewrite<sf::mapped_file>(directory / "in", directory / "out"));
    for (const auto what : both)
        fail_each([&] { return open_and_verify(directory / "in", directory / "out"); },
                  [](bool) { return std::string{}; }, what);
}

TEST_CASE(
    "allocations: a text whose allocation failed stays empty, and so does every text made from "
    "it") {
    sf::text name{"model-"};
    const std::string more(100, 'x');
    {
        const failing_allocation fault{1, failing_allocation::then::only_this};
        CHECK_FALSE(name.append(more));
    }
    CHECK(name.lacks_memory());
    CHECK(name == "");
    CHECK(*name.c_str() == '\0');
    CHECK_FALSE(name.append("y"));
    CHECK(name == "");
    const sf::text copy{name}, by_view{name.view()}, by_prefix{"dir/"};
    sf::text joined{by_prefix};
    CHECK_FALSE(joined.append(copy));
    CHECK(copy.lacks_memory());
    CHECK(by_view.lacks_memory());
    CHECK(joined.lacks_memory());
    CHECK(sf::text::lacks_memory(name.view()));
    CHECK_FALSE(sf::text::lacks_memory(std::string_view{}));
    CHECK_FALSE(by_prefix.lacks_memory());
    const sf::text moved{std::move(joined)};
    CHECK(moved.lacks_memory());
    name = sf::text{"again"};
    CHECK_FALSE(name.lacks_memory());
    CHECK(name.append("!"));
    CHECK(name == "again!");
    CHECK_FALSE(sf::shard_name("model", 1, 2).lacks_memory());
    for (std::size_t number = 1; number < 4; ++number) {
        const failing_allocation fault{number, failing_allocation::then::only_this};
        const sf::text shard = sf::shard_name("model", 1, 2);
        CHECK(shard.lacks_memory() == fault.has_failed());
        CHECK(shard == (fault.has_failed() ? "" : "model-00001-of-00002.safetensors"));
    }
}
