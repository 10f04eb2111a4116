#include <safefuse/read/tensor_file.hpp>

#include <doctest/doctest.h>

#include <array>
#include <memory>
#include <random>
#include <span>
#include <utility>

#include <safefuse/write/tensor_file_writer.hpp>

#include "../../support/support.hpp"

namespace sf = safefuse;
using support::bytes_of;
using support::string_of;
using support::temporary_directory;
using support::tensor;

namespace {

std::span<std::byte> writable(std::string& text) { return std::as_writable_bytes(std::span{text}); }

const std::vector<tensor>& some_tensors() {
    static const std::vector<tensor> tensors = {
        support::bf16("a.weight", {3, 4, 5}),
        support::u8("b.scalar", {}),
        support::u8("c.empty", {2, 0, 3}),
        support::bf16("d.weight", {7, 2}),
        {"e.f4", "F4", {4, 4}, support::pattern("e.f4", 8)}};
    return tensors;
}

std::span<std::byte> writable_byte() {
    static std::byte one{};
    return {&one, 1};
}

/// Bytes that must be read, and that say how much was.
class counting_source {
public:
    explicit counting_source(std::string_view bytes) : bytes_{bytes} {}
    std::uint64_t size_bytes() const noexcept { return bytes_.size(); }
    std::span<const std::byte> bytes() const noexcept { return {}; }
    sf::result<void> read(std::uint64_t offset, std::span<std::byte> out) const noexcept {
        *read_bytes += out.size();
        ++*calls;
        return sf::memory_source{bytes_of(bytes_)}.read(offset, out);
    }
    void advise(std::uint64_t offset, std::uint64_t size_bytes, sf::advice) const noexcept {
        *advised = {offset, size_bytes};
    }

    std::unique_ptr<std::uint64_t> read_bytes = std::make_unique<std::uint64_t>(0);
    std::unique_ptr<int> calls = std::make_unique<int>(0);
    std::unique_ptr<std::pair<std::uint64_t, std::uint64_t>> advised =
        std::make_unique<std::pair<std::uint64_t, std::uint64_t>>();

private:
    std::string_view bytes_;
};
static_assert(sf::byte_source<counting_source>);

/// A source that lends fewer bytes than its size.
class short_source {
public:
    explicit short_source(std::string_view bytes)
        : lent_bytes{std::make_unique<std::size_t>(bytes.size())}, bytes_{bytes} {}
    std::uint64_t size_bytes() const noexcept { return bytes_.size(); }
    std::span<const std::byte> bytes() const noexcept {
        return bytes_of(bytes_).first(*lent_bytes);
    }
    sf::result<void> read(std::uint64_t offset, std::span<std::byte> out) const noexcept {
        return sf::memory_source{bytes_of(bytes_)}.read(offset, out);
    }
    void advise(std::uint64_t, std::uint64_t, sf::advice) const noexcept {}

    std::unique_ptr<std::size_t> lent_bytes;

private:
    std::string_view bytes_;
};
static_assert(sf::byte_source<short_source>);

template <class File>
void check_tensors(const File& file, const std::vector<tensor>& tensors) {
    REQUIRE(file.size() == tensors.size());
    for (const tensor& each : tensors) {
        const std::size_t i = file.index_of(each.name);
        REQUIRE(i != File::npos);
        CHECK(file[i].name == each.name);
        CHECK(sf::name(file[i].type) == each.type);
        CHECK(std::vector<std::uint64_t>{file[i].shape.begin(), file[i].shape.end()} == each.shape);
        CHECK(file[i].size_bytes() == each.data.size());
        std::string by_name(each.data.size(), '?'), by_index = by_name;
        REQUIRE(file.read(each.name, writable(by_name)));
        REQUIRE(file.read(i, writable(by_index)));
        CHECK(by_name == each.data);
        CHECK(by_index == each.data);
        const auto view = file.find(each.name);
        if (!file.source().bytes().empty()) {
            REQUIRE(view);
            CHECK(string_of(view->bytes()) == each.data);
            CHECK(sf::name(view->type()) == each.type);
        } else {
            REQUIRE(!view);
            CHECK(view.error().code == sf::errc::not_resident);
            CHECK(view.error().tensor == each.name);
        }
        file.advise(i, sf::advice::will_need);
        file.advise(each.name, sf::advice::done_with);
    }
}

}  // namespace

TEST_CASE_TEMPLATE("tensor file: every tensor is found and read", File, sf::tensor_file,
                   sf::positional_tensor_file) {
    const temporary_directory directory;
    support::write_tensor_file(directory / "a.safetensors", some_tensors());
    auto file = File::open(directory / "a.safetensors");
    REQUIRE_MESSAGE(file, file.error().message().view());
    CHECK(file->path() == directory / "a.safetensors");
    check_tensors(*file, some_tensors());
    const File moved = std::move(*file);
    check_tensors(moved, some_tensors());
    std::string_view format;
    CHECK(moved.header().find_metadata("format", format));
    CHECK(format == "pt");
}

TEST_CASE("tensor file: bytes in memory are opened like a file, without a copy") {
    const std::string bytes = support::tensor_file_bytes(some_tensors());
    const auto file = sf::basic_tensor_file<sf::memory_source>::from(
        sf::memory_source{bytes_of(bytes)}, "memory");
    REQUIRE(file);
    check_tensors(*file, some_tensors());
    const auto view = file->find("a.weight");
    REQUIRE(view);
    const void* const at = view->bytes().data();
    CHECK(at >= bytes.data());
    CHECK(at < bytes.data() + bytes.size());
    CHECK(file->offset_bytes(file->index_of("a.weight")) ==
          static_cast<std::uint64_t>(static_cast<const char*>(at) - bytes.data()));
}

TEST_CASE("tensor file: an unknown name is a failure with the file and the tensor") {
    const std::string bytes = support::tensor_file_bytes(some_tensors());
    const auto file = sf::basic_tensor_file<sf::memory_source>::from(
        sf::memory_source{bytes_of(bytes)}, "memory");
    REQUIRE(file);
    CHECK(file->index_of("absent") == file->npos);
    const auto check = [](const sf::failure& why) {
        CHECK(why.code == sf::errc::tensor_not_found);
        CHECK(why.file == "memory");
        CHECK(why.tensor == "absent");
    };
    check(file->find("absent").error());
    check(file->read("absent", {}).error());
    check(file->runs_of("absent", {}).error());
    check(file->read_slice("absent", {}, {}).error());
    file->advise("absent", sf::advice::will_need);
}

TEST_CASE_TEMPLATE("tensor file: a buffer of the wrong size is refused and unchanged", File,
                   sf::tensor_file, sf::positional_tensor_file) {
    const temporary_directory directory;
    support::write_tensor_file(directory / "a.safetensors", some_tensors());
    const auto file = File::open(directory / "a.safetensors");
    REQUIRE(file);
    for (const std::size_t size : {0u, 119u, 121u}) {
        std::string out(size, '?');
        const auto whole = file->read("a.weight", writable(out));
        REQUIRE(!whole);
        CHECK(whole.error().code == sf::errc::wrong_buffer_size);
        CHECK(whole.error().file == directory / "a.safetensors");
        CHECK(whole.error().tensor == "a.weight");
        CHECK(whole.error().expected == 120);
        CHECK(whole.error().actual == size);
        const auto slice = file->read_slice("a.weight", {}, writable(out));
        REQUIRE(!slice);
        CHECK(slice.error().code == sf::errc::wrong_buffer_size);
        CHECK(slice.error().tensor == "a.weight");
        CHECK(out == std::string(size, '?'));
    }
}

TEST_CASE_TEMPLATE("tensor file: every slice of a tensor equals the elements picked one by one",
                   File, sf::tensor_file, sf::positional_tensor_file) {
    const temporary_directory directory;
    support::write_tensor_file(directory / "a.safetensors", some_tensors());
    const auto file = File::open(directory / "a.safetensors");
    REQUIRE(file);
    const std::string& data = some_tensors()[0].data;  // [3, 4, 5] elements of 2 bytes
    for (std::uint64_t a = 0; a <= 3; ++a)
        for (std::uint64_t b = a; b <= 3; ++b)
            for (std::uint64_t c = 0; c <= 4; ++c)
                for (std::uint64_t d = c; d <= 4; ++d)
                    for (std::uint64_t e = 0; e <= 5; ++e)
                        for (std::uint64_t f = e; f <= 5; ++f) {
                            std::string expected;
                            for (std::uint64_t i = a; i < b; ++i)
                                for (std::uint64_t j = c; j < d; ++j)
                                    for (std::uint64_t k = e; k < f; ++k)
                                        expected += data.substr((i * 20 + j * 5 + k) * 2, 2);
                            const std::array ranges{sf::range(a, b), sf::range(c, d),
                                                    sf::range(e, f)};
                            std::string out(expected.size(), '?');
                            REQUIRE(file->read_slice("a.weight", ranges, writable(out)));
                            REQUIRE(out == expected);
                            if (!file->source().bytes().empty()) {
                                const auto runs = file->runs_of("a.weight", ranges);
                                REQUIRE(runs);
                                const auto view = file->find("a.weight")->slice(*runs);
                                REQUIRE(view.has_value() == runs->is_contiguous());
                                if (view) REQUIRE(string_of(view->bytes()) == expected);
                            }
                        }
}

TEST_CASE("tensor file: slices that do not fit are refused with file and tensor") {
    const std::string bytes = support::tensor_file_bytes(some_tensors());
    const auto file = sf::basic_tensor_file<sf::memory_source>::from(
        sf::memory_source{bytes_of(bytes)}, "memory");
    REQUIRE(file);
    const auto code = [&](std::string_view name, std::vector<sf::axis_range> ranges) {
        const auto done = file->read_slice(name, ranges, {});
        REQUIRE(!done);
        CHECK(done.error().file == "memory");
        CHECK(done.error().tensor == name);
        return done.error().code;
    };
    CHECK(code("d.weight", {sf::range(0, 8)}) == sf::errc::out_of_range);
    CHECK(code("d.weight", {sf::range(3, 2)}) == sf::errc::out_of_range);
    CHECK(code("d.weight", {sf::all, sf::all, sf::all}) == sf::errc::too_many_indices);
    CHECK(code("b.scalar", {sf::at(0)}) == sf::errc::too_many_indices);
    CHECK(code("e.f4", {sf::all, sf::range(0, 1)}) == sf::errc::slice_cuts_byte);
}

TEST_CASE(
    "tensor file: opening reads only the header, a slice only its bytes and the gaps between "
    "them") {
    std::vector<tensor> tensors = some_tensors();
    tensors.push_back(support::u8("big", {1000, 1000}));
    const std::string bytes = support::tensor_file_bytes(tensors);
    const auto file =
        sf::basic_tensor_file<counting_source>::from(counting_source{bytes}, "counted");
    REQUIRE(file);
    const std::uint64_t header_bytes = file->header().header_bytes();
    CHECK(*file->source().read_bytes == header_bytes);
    CHECK(*file->source().calls == 2);
    std::string out(50 * 10, '?');
    REQUIRE(
        file->read_slice("big", std::array{sf::range(100, 150), sf::range(7, 17)}, writable(out)));
    CHECK(*file->source().read_bytes == header_bytes + 49 * 1000 + 10);
    CHECK(*file->source().calls == 3);
    out.resize(50 * 1000);
    *file->source().calls = 0;
    REQUIRE(file->read_slice("big", std::array{sf::range(100, 150)}, writable(out)));
    CHECK(*file->source().calls == 1);
    CHECK(out == tensors.back().data.substr(100 * 1000, 50 * 1000));
    file->advise("big", sf::advice::will_need);
    CHECK(file->source().advised->first == file->offset_bytes(file->index_of("big")));
    CHECK(file->source().advised->second == 1'000'000);
}

TEST_CASE(
    "tensor file: a column of a positional file costs one read for each MiB, not one for each "
    "row") {
    struct row {
        std::vector<std::uint64_t> shape;
        std::vector<sf::axis_range> ranges;
        int reads;
        std::uint64_t most_bytes;  // that are read
    };
    constexpr std::uint64_t mib = 1 << 20;
    const row rows[] = {
        // 20,000 rows of 252 of 504 bytes, in 10 windows
        {{20'000, 504}, {sf::all, sf::range(100, 352)}, 10, 20'000 * 504 + 10 * 252},
        // every other row and column
        {{1000, 1000}, {sf::range(0, 1000, 2), sf::range(0, 1000, 2)}, 1, mib},
        // 4 KiB between the runs are read along, one byte more is not
        {{100, 4106}, {sf::all, sf::range(5, 15)}, 1, 100 * 4106},
        {{100, 4107}, {sf::all, sf::range(5, 15)}, 100, 100 * 10},
        // runs that are near each other, in groups that are not
        {{10, 100, 1000}, {sf::all, sf::range(0, 50), sf::range(0, 10)}, 10, 10 * 49'010},
        // long runs are read straight to where they belong
        {{20, 100'000}, {sf::all, sf::range(0, 99'999)}, 20, 20 * 99'999},
        {{20, 100'000}, {sf::range(3, 7)}, 1, 400'000},
        {{20, 1000}, {sf::range(3, 3), sf::range(0, 1000, 2)}, 0, 0},
    };
    for (const row& each : rows) {
        const tensor big = support::u8("big", each.shape);
        const std::string bytes = support::tensor_file_bytes({some_tensors()[0], big});
        const auto file =
            sf::basic_tensor_file<counting_source>::from(counting_source{bytes}, "counted");
        const auto resident = sf::basic_tensor_file<sf::memory_source>::from(
            sf::memory_source{bytes_of(bytes)}, "memory");
        REQUIRE(file);
        REQUIRE(resident);
        const auto runs = file->runs_of("big", each.ranges);
        REQUIRE(runs);
        std::string out(runs->size_bytes(), '?'), expected = out;
        *file->source().calls = 0;
        *file->source().read_bytes = 0;
        REQUIRE(file->read_slice("big", each.ranges, writable(out)));
        REQUIRE(resident->read_slice("big", each.ranges, writable(expected)));
        CHECK(out == expected);
        CHECK(*file->source().calls == each.reads);
        CHECK(*file->source().read_bytes >= out.size());
        CHECK(*file->source().read_bytes <= each.most_bytes);
    }
}

TEST_CASE("tensor file: random slices are the same from memory and by position, steps included") {
    std::mt19937 random{57721};
    const auto up_to = [&](std::uint64_t last) {
        return std::uniform_int_distribution<std::uint64_t>{0, last}(random);
    };
    for (int round = 0; round < 300; ++round) {
        std::vector<std::uint64_t> shape{1 + up_to(6), 1 + up_to(20), 1 + up_to(3000)};
        const std::string bytes = support::tensor_file_bytes({support::u8("w", shape)});
        const auto read = sf::basic_tensor_file<counting_source>::from(counting_source{bytes}, "r");
        const auto resident =
            sf::basic_tensor_file<sf::memory_source>::from(sf::memory_source{bytes_of(bytes)}, "m");
        REQUIRE(read);
        REQUIRE(resident);
        std::vector<sf::axis_range> ranges;
        for (const std::uint64_t extent : shape) {
            const std::uint64_t begin = up_to(extent);
            ranges.push_back(sf::range(begin, begin + up_to(extent - begin), 1 + up_to(4)));
        }
        const auto runs = read->runs_of(0, ranges);
        REQUIRE(runs);
        std::string out(runs->size_bytes(), '?'), expected = out;
        REQUIRE(read->read_slice(0, ranges, writable(out)));
        REQUIRE(resident->read_slice(0, ranges, writable(expected)));
        REQUIRE(out == expected);
    }
}

namespace {

template <class File>
void check_set(const File& file, const std::vector<tensor>& tensors) {
    const sf::tensor_set_ref set{file};
    REQUIRE(set.size() == tensors.size());
    CHECK(set.source_name(0) == file.path());
    CHECK(set.source_bytes(0).size() == file.source().bytes().size());
    CHECK(set.check(0));
    for (const tensor& each : tensors) {
        const std::size_t i = file.index_of(each.name);
        CHECK(set.spec(i).name == each.name);
        CHECK(sf::name(set.spec(i).type) == each.type);
        const sf::tensor_location place = set.place(i);
        CHECK(place.source == 0);
        CHECK(place.size_bytes == each.data.size());
        std::string out(each.data.size(), '?');
        REQUIRE(set.read(place.source, place.offset, writable(out)));
        CHECK(out == each.data);
        set.advise(place.source, place.offset, place.size_bytes, sf::advice::will_need);
    }
    const auto past = set.read(0, file.header().file_bytes(), writable_byte());
    REQUIRE(!past);
    CHECK(past.error().file == file.path());
}

}  // namespace

TEST_CASE("tensor file: is a tensor set with every source, also after a move") {
    static_assert(sf::tensor_set<sf::basic_tensor_file<sf::memory_source>> &&
                  sf::tensor_set<sf::basic_tensor_file<counting_source>> &&
                  sf::tensor_set<sf::tensor_file_view<counting_source>>);
    const temporary_directory directory;
    support::write_tensor_file(directory / "a.safetensors", some_tensors());
    const std::string bytes = support::tensor_file_bytes(some_tensors());
    auto mapped = sf::tensor_file::open(directory / "a.safetensors");
    auto positional = sf::positional_tensor_file::open(directory / "a.safetensors");
    auto counted = sf::basic_tensor_file<counting_source>::from(counting_source{bytes}, "counted");
    auto memory = sf::basic_tensor_file<sf::memory_source>::from(sf::memory_source{bytes_of(bytes)},
                                                                 "memory");
    REQUIRE((mapped && positional && counted && memory));
    check_set(*mapped, some_tensors());
    check_set(*positional, some_tensors());
    check_set(*counted, some_tensors());
    check_set(*memory, some_tensors());
    CHECK(sf::tensor_set_ref{*memory}.native_handle(0) == sf::no_native_handle);

    const sf::tensor_set_ref set{*counted};
    const auto moved = *std::move(counted);
    CHECK(set.size() == some_tensors().size());
    CHECK(set.spec(moved.index_of("d.weight")).name.data() ==
          moved[moved.index_of("d.weight")].name.data());
    CHECK(counted->size() == 0);
    CHECK(counted->index_of("d.weight") == decltype(moved)::npos);
    CHECK(std::as_const(*counted).path().empty());
    CHECK(std::as_const(*counted).find("d.weight").error().code == sf::errc::tensor_not_found);
}

TEST_CASE("any tensor file: one type for files of all sources, without reading again") {
    const temporary_directory directory;
    support::write_tensor_file(directory / "a.safetensors", some_tensors());
    const std::string bytes = support::tensor_file_bytes(some_tensors());
    auto mapped = sf::tensor_file::open(directory / "a.safetensors");
    auto positional = sf::positional_tensor_file::open(directory / "a.safetensors");
    counting_source source{bytes};
    int* const calls = source.calls.get();
    auto counted =
        sf::basic_tensor_file<counting_source>::from(std::move(source), "counted.safetensors");
    REQUIRE((mapped && positional && counted));
    const auto view = mapped->find("a.weight");
    REQUIRE(view);
    *calls = 0;

    std::vector<sf::any_tensor_file> files;
    files.push_back(*sf::any_tensor_file::from(*std::move(mapped)));
    files.push_back(*sf::any_tensor_file::from(*std::move(positional)));
    files.push_back(*sf::any_tensor_file::from(*std::move(counted)));
    CHECK(*calls == 0);
    auto erased = sf::any_source::of(sf::memory_source{bytes_of(bytes)});
    REQUIRE(erased);
    auto memory = sf::any_tensor_file::from(*std::move(erased), "memory.safetensors");
    REQUIRE(memory);
    files.push_back(*std::move(memory));
    for (const sf::any_tensor_file& file : files) {
        CAPTURE(file.path());
        check_tensors(file, some_tensors());
        check_set(file, some_tensors());
    }
    CHECK(files[0].find("a.weight")->bytes().data() == view->bytes().data());
    CHECK((files[0].native_handle(0) == sf::no_native_handle) ==
          (files[1].native_handle(0) == sf::no_native_handle));
    CHECK(files[3].native_handle(0) == sf::no_native_handle);
    CHECK(files[2].path() == "counted.safetensors");
    CHECK(*calls > 0);
    files[1].close_handle();
    check_tensors(files[1], some_tensors());

#if !defined(_WIN32)  // there nobody cuts a file that is open
    std::filesystem::resize_file(directory / "a.safetensors", bytes.size() - 1);
    const auto changed = files[1].check(0);
    REQUIRE(!changed);
    CHECK(changed.error().code == sf::errc::file_changed);
#endif
}

TEST_CASE_TEMPLATE(
    "tensor file: a file that is no tensor file is named by its path and leaves no descriptor "
    "open",
    File, sf::tensor_file, sf::positional_tensor_file) {
    const temporary_directory directory;
    const std::string whole = support::tensor_file_bytes(some_tensors());
    const std::string huge =
        support::framed("{}").replace(0, 8, std::string{"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F", 8});
    struct row {
        std::string contents;
        sf::errc code;
    };
    const row rows[] = {
        {"", sf::errc::header_too_short},
        {"1234567", sf::errc::header_too_short},
        {std::string(8, '\0'), sf::errc::header_not_json},
        {huge, sf::errc::header_too_large},
        {std::string{"\x01\xE1\xF5\x05\0\0\0\0{}", 10}, sf::errc::header_too_large},  // 100,000,001
        {std::string{"\x00\xE1\xF5\x05\0\0\0\0{}", 10}, sf::errc::header_past_end},   // 100,000,000
        {support::framed("{").replace(0, 1, "\x02"), sf::errc::header_past_end},
        {support::framed("[]"), sf::errc::header_bad_entry},
        {support::framed("{\xFF}"), sf::errc::header_not_utf8},
        {support::framed("{}", "x"), sf::errc::trailing_bytes},
        {whole.substr(0, whole.size() - 1), sf::errc::data_truncated},
        {whole + "x", sf::errc::trailing_bytes},
    };
    const std::size_t before = support::open_descriptors();
    for (const row& each : rows) {
        support::write_file(directory / "bad.safetensors", each.contents);
        const auto file = File::open(directory / "bad.safetensors");
        REQUIRE(!file);
        CHECK(sf::sentence(file.error().code) == sf::sentence(each.code));
        CHECK(file.error().file == directory / "bad.safetensors");
    }
    CHECK(support::open_descriptors() == before);
    const auto truncated = [&] {
        support::write_file(directory / "bad.safetensors", whole.substr(0, whole.size() - 3));
        return File::open(directory / "bad.safetensors");
    }();
    REQUIRE(!truncated);
    CHECK(truncated.error().expected == whole.size());
    CHECK(truncated.error().actual == whole.size() - 3);
    CHECK(truncated.error().message().view().find("3 bytes short") != std::string_view::npos);
    const auto absent = File::open(directory / "absent.safetensors");
    REQUIRE(!absent);
    CHECK(absent.error().code == sf::errc::file_not_found);
    CHECK(absent.error().file == directory / "absent.safetensors");
    const auto folder = File::open(directory.string());
    REQUIRE(!folder);
    CHECK(folder.error().code == sf::errc::not_a_file);
    CHECK(support::open_descriptors() == before);
}

TEST_CASE_TEMPLATE(
    "tensor file: tensors beyond 2 and 4 GiB are written and read, whole and in slices, or "
    "refused on 32 bits",
    File, sf::tensor_file, sf::positional_tensor_file) {
    const temporary_directory directory;
    const std::string path = directory / "large.safetensors";
    // The 2 GiB limit is in a's last row, 4 GiB of the file in b, 4 GiB of data in c, and all of d
    // is after it.
    constexpr std::uint64_t gibibyte = std::uint64_t{1} << 30, row_bytes = gibibyte - 3,
                            b_bytes = gibibyte - 1;
    const std::array<std::uint64_t, 2> a_shape{3, row_bytes}, small_shape{4, 6};
    const std::array<std::uint64_t, 1> b_shape{b_bytes};
    const std::array specs{sf::tensor_spec{"a", sf::dtype::u8, a_shape},
                           sf::tensor_spec{"b", sf::dtype::u8, b_shape},
                           sf::tensor_spec{"c", sf::dtype::u8, small_shape},
                           sf::tensor_spec{"d", sf::dtype::u8, small_shape}};
    const std::string row = support::pattern("a", 16), end = support::pattern("b", 8),
                      c = support::pattern("c", 24), d = support::pattern("d", 24);
    {
        auto header = sf::encode_header(specs);
        REQUIRE(header);
        auto made = sf::tensor_file_writer::create(path, specs, std::move(*header),
                                                   false);  // sparse: no blocks are reserved
        REQUIRE(made);
        REQUIRE(made->write(0, 2 * row_bytes, bytes_of(row)));
        REQUIRE(made->write(1, b_bytes - end.size(), bytes_of(end)));
        REQUIRE(made->write(2, 0, bytes_of(c)));
        REQUIRE(made->write(3, 0, bytes_of(d)));
        CHECK(made->file_bytes() > 4 * gibibyte);
        REQUIRE(made->commit(sf::durability::renamed));
    }
    const auto file = File::open(path);
    if (std::is_same_v<File, sf::tensor_file> && sizeof(std::size_t) < 8) {
        REQUIRE(!file);
        CHECK(file.error().code == sf::errc::out_of_memory);
        return;
    }
    REQUIRE(file);
    const auto slice = [&](std::string_view name, std::vector<sf::axis_range> ranges,
                           std::size_t size) {
        std::string out(size, '?');
        REQUIRE(file->read_slice(name, ranges, writable(out)));
        if (!file->source().bytes().empty()) {
            const auto runs = file->runs_of(name, ranges);
            REQUIRE(runs);
            const auto view = file->find(name)->slice(*runs);
            CHECK(view.has_value() == runs->is_contiguous());
            if (view) CHECK(string_of(view->bytes()) == out);
        }
        return out;
    };
    CHECK(slice("a", {sf::at(0), sf::range(0, 16)}, 16) == std::string(16, '\0'));
    CHECK(slice("a", {sf::at(2), sf::range(0, 16)}, 16) == row);
    CHECK(slice("a", {sf::range(1, 3), sf::range(4, 6)}, 4) ==
          std::string(2, '\0') + row.substr(4, 2));
    CHECK(slice("b", {sf::range(b_bytes - 10, b_bytes)}, 10) == std::string(2, '\0') + end);
    for (const auto& [name, bytes] : {std::pair<std::string_view, std::string>{"c", c}, {"d", d}}) {
        std::string out(24, '?');
        REQUIRE(file->read(name, writable(out)));
        CHECK(out == bytes);
        CHECK(slice(name, {sf::all, sf::range(2, 3)}, 4) ==
              std::string{bytes[2], bytes[8], bytes[14], bytes[20]});
    }
    CHECK(file->offset_bytes(file->index_of("d")) > 4 * gibibyte);
}

TEST_CASE("tensor file: a smaller limit for headers is checked before anything is read") {
    const std::string bytes = support::tensor_file_bytes(some_tensors());
    counting_source source{bytes};
    const auto file = sf::basic_tensor_file<counting_source>::from(std::move(source), "counted",
                                                                   {.max_header_bytes = 10});
    REQUIRE(!file);
    CHECK(file.error().code == sf::errc::header_too_large);
    CHECK(file.error().expected == 10);
}

TEST_CASE("tensor file: every cut of a valid file is refused and none crashes") {
    const std::string bytes = support::tensor_file_bytes(some_tensors());
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        const std::string cut = bytes.substr(0, size);
        CHECK(!sf::basic_tensor_file<sf::memory_source>::from(sf::memory_source{bytes_of(cut)},
                                                              "cut"));
        CHECK(!sf::basic_tensor_file<counting_source>::from(counting_source{cut}, "cut"));
    }
}

#if !defined(_WIN32)
TEST_CASE("tensor file: a file truncated while it is open is file_changed with file and tensor") {
    const temporary_directory directory;
    support::write_tensor_file(directory / "a.safetensors", some_tensors());
    const auto file = sf::positional_tensor_file::open(directory / "a.safetensors");
    REQUIRE(file);
    const std::uint64_t header_bytes = file->header().header_bytes();
    std::filesystem::resize_file(directory / "a.safetensors", header_bytes + 60);
    std::string out(120, '?');
    const auto whole = file->read("a.weight", writable(out));
    REQUIRE(!whole);
    CHECK(whole.error().code == sf::errc::file_changed);
    CHECK(whole.error().file == directory / "a.safetensors");
    CHECK(whole.error().tensor == "a.weight");
    CHECK(whole.error().actual == header_bytes + 60);
    out.resize(40);
    CHECK(file->read_slice("a.weight", std::array{sf::at(0)}, writable(out)));
    const auto slice = file->read_slice("a.weight", std::array{sf::at(2)}, writable(out));
    REQUIRE(!slice);
    CHECK(slice.error().code == sf::errc::file_changed);
    CHECK(slice.error().tensor == "a.weight");
    const auto same = file->source().check_size();
    REQUIRE(!same);
    CHECK(same.error().code == sf::errc::file_changed);
}
#endif

TEST_CASE("tensor file: a source that gives fewer bytes than its size is refused, at any length") {
    const std::string file = support::tensor_file_bytes(some_tensors());
    for (std::size_t lent = 1; lent < file.size(); ++lent) {
        CAPTURE(lent);
        short_source source{file};
        *source.lent_bytes = lent;
        const auto opened = sf::basic_tensor_file<short_source>::from(std::move(source), "short");
        REQUIRE_FALSE(opened);
        CHECK(opened.error().code == sf::errc::read_past_end);
        CHECK(opened.error().file == "short");
        CHECK(opened.error().expected == file.size());
        CHECK(opened.error().actual == lent);
    }
    short_source nothing{file};
    *nothing.lent_bytes = 0;  // then it must be read
    const auto opened = sf::basic_tensor_file<short_source>::from(std::move(nothing), "read");
    REQUIRE(opened);
    CHECK(opened->view(0).error().code == sf::errc::not_resident);
}

TEST_CASE("tensor file: a source that gives fewer bytes later gives no view or slice past them") {
    const std::string file = support::tensor_file_bytes(some_tensors());
    short_source source{file};
    std::size_t& lent = *source.lent_bytes;
    const auto opened = sf::basic_tensor_file<short_source>::from(std::move(source), "short");
    REQUIRE(opened);
    std::size_t refused = 0;
    for (lent = 1; lent <= file.size(); ++lent)
        for (std::size_t i = 0; i < opened->size(); ++i) {
            CAPTURE(lent);
            const sf::tensor_entry entry = (*opened)[i];
            CAPTURE(entry.name);
            const auto view = opened->view(i), found = opened->find(entry.name);
            std::vector<std::byte> out(static_cast<std::size_t>(entry.size_bytes()));
            const auto slice = opened->read_slice(i, {}, out);
            const std::uint64_t end = opened->offset_bytes(i) + entry.size_bytes();
            REQUIRE(view.has_value() == (end <= lent));
            REQUIRE(found.has_value() == (end <= lent));
            REQUIRE(slice.has_value() == (end <= lent));
            if (view) {
                CHECK(view->bytes().data() + view->size_bytes() <= bytes_of(file).data() + lent);
                continue;
            }
            for (const sf::failure& error : {view.error(), found.error(), slice.error()}) {
                CHECK(error.code == sf::errc::read_past_end);
                CHECK(error.file == "short");
                CHECK(error.tensor == entry.name);
                CHECK(error.offset == opened->offset_bytes(i));
                CHECK(error.expected == entry.size_bytes());
                CHECK(error.actual == lent);
            }
            ++refused;
        }
    CHECK(refused > 0);
}
