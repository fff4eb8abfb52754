// Wait for a scan, read its image and its defocus, start the next one. .NET 8, one package:
//     dotnet add package MQTTnet --version 5.*
// The bytes of an image: docs/how-to/connect-your-software.md. Topics: docs/reference/mqtt.md.

using System.Buffers;
using System.Text.Json;
using MQTTnet;

string host = args.Length > 0 ? args[0] : "127.0.0.1";
string pipeline = args.Length > 1 ? args[1] : "stemd/demo/virtual";

using IMqttClient client = new MqttClientFactory().CreateMqttClient();

client.ApplicationMessageReceivedAsync += message =>
{
    byte[] payload = message.ApplicationMessage.Payload.ToArray();
    string topic = message.ApplicationMessage.Topic[pipeline.Length..];
    if (topic == "/image/ricom/last")
    {
        StemdImage image = StemdImage.Read(payload);
        Console.WriteLine($"{image.Name}: {image.Width} x {image.Height}, mean {image.Pixels.Average()}");
        return Task.CompletedTask;
    }
    JsonElement document = JsonDocument.Parse(payload).RootElement;
    if (topic == "/scan" && document.GetProperty("event").GetString() == "finished")
    {
        Console.WriteLine($"scan {document.GetProperty("id")}: {document.GetProperty("status")}");
    }
    if (topic == "/optics" && document.GetProperty("defocus_nm").ValueKind == JsonValueKind.Object)
    {
        JsonElement defocus = document.GetProperty("defocus_nm");
        Console.WriteLine($"defocus {defocus.GetProperty("value")} ± {defocus.GetProperty("sigma")} nm");
    }
    if (topic == "/reply" && !document.GetProperty("ok").GetBoolean())
    {
        Console.WriteLine($"refused: {document.GetProperty("error").GetProperty("message")}");
    }
    return Task.CompletedTask;
};

await client.ConnectAsync(new MqttClientOptionsBuilder().WithTcpServer(host, 1883).Build());
foreach (string part in new[] { "/scan", "/optics", "/reply", "/image/ricom/last" })
{
    await client.SubscribeAsync(new MqttTopicFilterBuilder().WithTopic(pipeline + part).Build());
}

// each request has an id of its own; the answer on /reply has the same
string command = $$$"""{"id": "{{{Guid.NewGuid()}}}", "command": "start", "args": {"scans": 1}}""";
await client.PublishAsync(new MqttApplicationMessageBuilder()
    .WithTopic(pipeline + "/command").WithPayload(command).Build());
await Task.Delay(TimeSpan.FromMinutes(5));

/// <summary>An image as it comes over MQTT: a TIFF whose numbers stand at fixed places.</summary>
public sealed record StemdImage(string Name, int Width, int Height, float[] Pixels)
{
    public static StemdImage Read(byte[] bytes)
    {
        int Number(int place) => checked((int)BitConverter.ToUInt32(bytes, place));
        (int width, int height) = (Number(18), Number(30));
        ReadOnlySpan<byte> text = bytes.AsSpan(Number(78), Number(74) - 1);
        JsonElement about = JsonDocument.Parse(text.ToArray()).RootElement;
        float[] pixels = new float[width * height];
        Buffer.BlockCopy(bytes, Number(90), pixels, 0, Number(126));
        return new StemdImage(about.GetProperty("name").GetString()!, width, height, pixels);
    }
}
