#include <safefuse/read/model_config.hpp>

#include <doctest/doctest.h>

#include "../../support/support.hpp"

namespace sf = safefuse;

namespace {

sf::model_config parsed(std::string_view json) {
    auto config = sf::model_config::parse(support::bytes_of(json));
    REQUIRE_MESSAGE(config, config.error().message().view());
    return std::move(*config);
}

sf::errc refused(std::string_view json) {
    const auto config = sf::model_config::parse(support::bytes_of(json));
    REQUIRE(!config);
    CHECK(config.error().offset != sf::unknown);
    return config.error().code;
}

}  // namespace

TEST_CASE("config: the keys of a plain mixture-of-experts model") {
    const auto config = parsed(R"({
      "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_experts": 128,
      "num_experts_per_tok": 8, "torch_dtype": "bfloat16", "rope_scaling": null,
      "mlp_only_layers": [], "rms_norm_eps": 1e-06})");
    CHECK(config.model_type == "qwen3_moe");
    CHECK(config.text_model_type.empty());
    CHECK(config.expert_count == 128);
    CHECK(config.dtype_name == "bfloat16");
    CHECK(config.quantization.empty());
}

TEST_CASE("config: every spelling of the number of experts is known") {
    for (const char* key :
         {"num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"}) {
        CHECK(parsed("{\"" + std::string{key} + "\": 64}").expert_count == 64);
        CHECK(parsed("{\"text_config\": {\"" + std::string{key} + "\": 32}, \"" + key + "\": 64}")
                  .expert_count == 32);
        CHECK(parsed("{\"" + std::string{key} + "\": 64, \"text_config\": {}}").expert_count == 64);
    }
    CHECK(parsed("{}").expert_count == sf::unknown);
    CHECK(
        parsed(R"({"model_type": "dbrx", "ffn_config": {"model_type": "", "moe_num_experts": 16}})")
            .expert_count == 16);
    CHECK(
        parsed(R"({"model_type": "dbrx", "ffn_config": {"model_type": "", "moe_num_experts": 16}})")
            .model_type == "dbrx");
}

TEST_CASE("config: a number of experts that is not a plain number stays unknown") {
    for (const char* value :
         {"null", "[64, 64]", "8.0", "-1", "\"8\"", "{}", "true", "1e3", "18446744073709551616"})
        CHECK(parsed("{\"num_experts\": " + std::string{value} + ", \"model_type\": \"m\"}")
                  .expert_count == sf::unknown);
    CHECK(parsed(R"({"num_experts": null, "num_local_experts": 8})").expert_count == 8);
}

TEST_CASE("config: the language model in a larger model") {
    const auto config =
        parsed(R"({"model_type": "llama4", "vision_config": {"model_type": "v", "num_experts": 3},
      "text_config": {"model_type": "llama4_text", "num_local_experts": 16,
                      "torch_dtype": "bfloat16",
                      "quantization_config": {"quant_method": "fp8"}}})");
    CHECK(config.model_type == "llama4");
    CHECK(config.text_model_type == "llama4_text");
    CHECK(config.expert_count == 16);
    CHECK(config.dtype_name == "bfloat16");
    CHECK(config.quantization == "fp8");
}

TEST_CASE("config: quantisation is named, with any other keys beside it") {
    const auto config = parsed(
        R"({"quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
      "weight_block_size": [128, 128]}, "model_type": "deepseek_v3", "n_routed_experts": 256})");
    CHECK(config.quantization == "fp8");
    CHECK(config.expert_count == 256);
    CHECK(parsed(R"({"quantization_config": null})").quantization.empty());
    CHECK(parsed(R"({"quantization_config": {"bits": 4}})").quantization.empty());
}

TEST_CASE("config: dtype has precedence over the older torch_dtype, in either order") {
    CHECK(parsed(R"({"dtype": "bfloat16", "torch_dtype": "float16"})").dtype_name == "bfloat16");
    CHECK(parsed(R"({"torch_dtype": "float16", "dtype": "bfloat16"})").dtype_name == "bfloat16");
    CHECK(parsed(R"({"torch_dtype": null})").dtype_name.empty());
}

TEST_CASE("config: NaN and Infinity, which Python writes, are numbers outside of strings") {
    const auto config = parsed(
        R"({"time_step_limit": [0.0, Infinity], "a": -Infinity, "b": NaN, "c": "\"Infinity", "model_type": "NaN", "num_experts": 4})");
    CHECK(config.model_type == "NaN");
    CHECK(config.expert_count == 4);
    CHECK(refused(R"({"a": Inf})") == sf::errc::bad_json);
    CHECK(refused(R"({"a": -NaN})") == sf::errc::bad_json);
}

TEST_CASE("config: escapes are decoded") {
    CHECK(parsed(R"({"model\u005ftype": "a\u00e9\n"})").model_type == "a\xC3\xA9\n");
}

TEST_CASE("config: text that is not a JSON object is refused with the offset") {
    for (const char* json :
         {"", "[]", "null", "{", "{\"a\":}", "{} x", "{'a': 1}", "{\"a\": 1,}", "{\"a\": \"\xFF\"}",
          "{\"a\": \"", "{\"model_type\": \"a\" \"b\"}", "// c\n{}"})
        CHECK(refused(json) == sf::errc::bad_json);
}

TEST_CASE("config: every cut of a valid text is refused and none crashes") {
    const std::string json =
        R"({"model_type": "m\u00e9", "text_config": {"num_experts": 4, "x": [1, -Infinity]}, "quantization_config": {"quant_method": "q"}})";
    (void)parsed(json);
    for (std::size_t size = 0; size < json.size(); ++size)
        CHECK(refused(json.substr(0, size)) == sf::errc::bad_json);
}

TEST_CASE("config: a number by its key, in objects too") {
    const auto number = [](std::string_view json, std::string_view key) {
        const auto found = sf::parse_config_number(support::bytes_of(json), key);
        REQUIRE(found);
        return *found;
    };
    const char* config =
        R"({"heads": 3, "vision": {"heads": 16, "deep": {"x": 7}, "x": [1, {"heads": 5}]}, "text": {"heads": null, "x": 2.5}})";
    CHECK(number(config, "heads") == 3);
    CHECK(number(config, "vision.heads") == 16);
    CHECK(number(config, "vision.deep.x") == 7);
    for (const char* none : {"", "head", "vision", "vision.", ".heads", "vision.x",
                             "vision.x.heads", "text.heads", "text.x", "heads.x", "deep.x"})
        CHECK(number(config, none) == sf::unknown);
    CHECK(number("{}", "heads") == sf::unknown);
    CHECK(number(R"({"heads": 3, "heads": 4})", "heads") == 4);
    CHECK(number(R"({"x": NaN, "heads": 4})", "heads") == 4);
    const auto broken = sf::parse_config_number(support::bytes_of(R"({"heads": 3, )"), "heads");
    CHECK(broken.error().code == sf::errc::bad_json);
    CHECK(sf::parse_config_number(support::bytes_of("[1]"), "heads").error().code ==
          sf::errc::bad_json);
    const support::temporary_directory directory;
    CHECK(sf::read_config_number(directory.string(), "heads").error().code ==
          sf::errc::file_not_found);
    support::write_file(directory / "config.json", config);
    CHECK(sf::read_config_number(directory.string(), "vision.heads").value() == 16);
}

TEST_CASE("config: is read from a directory; a missing or broken one names its path") {
    const support::temporary_directory directory;
    const auto absent = sf::read_model_config(directory.string());
    REQUIRE(!absent);
    CHECK(absent.error().code == sf::errc::file_not_found);
    CHECK(absent.error().file == directory / "config.json");

    support::write_file(directory / "config.json",
                        R"({"model_type": "mixtral", "num_local_experts": 8})");
    const auto config = sf::read_model_config(directory.string());
    REQUIRE(config);
    CHECK(config->model_type == "mixtral");
    CHECK(config->expert_count == 8);

    support::write_file(directory / "config.json", "{");
    const auto broken = sf::read_model_config(directory.string());
    REQUIRE(!broken);
    CHECK(broken.error().code == sf::errc::bad_json);
    CHECK(broken.error().file == directory / "config.json");
}
